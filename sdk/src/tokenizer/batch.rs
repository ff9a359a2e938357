//! [`Batch`]: texts of similar length as one input of a model.

use super::Tokens;
use crate::nn::Tensor;

/// Texts of similar length as one input of the model: rows of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Which text each row is.
    pub texts: Vec<usize>,
    /// `[texts, tokens]`: the tokens, filled up with those that mean nothing.
    pub ids: Tensor<i64>,
    /// `[texts, tokens]`: 1 where there is a token, 0 behind the last.
    pub mask: Tensor<i64>,
}

impl Batch {
    /// `[texts, tokens]`, all 0: the `token_type_ids` of models that tell a text from a second one.
    pub fn types(&self) -> Tensor<i64> {
        rectangle(self.ids.dims(), vec![0; self.ids.len()])
    }
}

/// Texts of up to so many tokens run together, and of four times as many, and so on: a short one
/// shall not cost as much as a long one.
const CLASS_MIN: usize = 32;
/// A run's answer is copied into the guest, at 1.5 KiB a token of a small model, and then read out
/// of the copy.
const BATCH_TOKENS_MAX: usize = 8192;

/// All texts, in as few batches as their lengths allow.
pub(super) fn batches(texts: &[Tokens], tokens_max: usize, pad: i64) -> Vec<Batch> {
    let length = |&text: &usize| texts[text].ids.len();
    let mut batches = Vec::new();
    let (mut from, mut to) = (0, CLASS_MIN);
    while from < tokens_max {
        let class: Vec<usize> =
            (0..texts.len()).filter(|text| (from + 1..=to).contains(&length(text))).collect();
        (from, to) = (to, to * 4);
        let Some(longest) = class.iter().map(length).max() else { continue };
        let row = padded(longest).min(tokens_max);
        let rows = (BATCH_TOKENS_MAX / row).max(1);
        batches.extend(class.chunks(rows).map(|class| batch(class, row, texts, pad)));
    }
    batches
}

fn batch(class: &[usize], row: usize, texts: &[Tokens], pad: i64) -> Batch {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for (before, &text) in class.iter().enumerate() {
        let tokens = &texts[text].ids;
        ids.extend(tokens.iter().map(|&id| i64::from(id)));
        ids.resize((before + 1) * row, pad);
        mask.resize(before * row + tokens.len(), 1);
        mask.resize((before + 1) * row, 0);
    }
    let dims = [class.len(), row];
    Batch { texts: class.to_vec(), ids: rectangle(&dims, ids), mask: rectangle(&dims, mask) }
}

fn rectangle(dims: &[usize], values: Vec<i64>) -> Tensor<i64> {
    Tensor::new(dims, values).expect("every row is filled up")
}

/// The length that rows of so many tokens get. A GPU plans each length once, so there are few:
/// multiples of 4, of 8 above 32, of 16 above 64 and so on. Those of the CPU pay for every token.
pub(super) fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(4))
}
