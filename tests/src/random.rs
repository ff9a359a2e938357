//! A small generator, so that every run of a test does the same.

/// A linear congruential generator; its low bits are dropped, as they repeat soon.
pub struct Random(pub u64);

impl Random {
    /// A number from 0 up to, and without, `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }
}
