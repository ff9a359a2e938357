// The keys that a query sees by its place: from one to before another. Bounds are cut so that
// these sums fit.

fn from_start(query: u32) -> u32 {
    return 0u;
}

fn from_first(query: u32) -> u32 {
    return u32(clamp(i32(query) + params.first_seen, 0, i32(params.keys)));
}

fn to_end(query: u32) -> u32 {
    return params.keys;
}

fn to_last(query: u32) -> u32 {
    return u32(clamp(i32(query) + params.last_seen + 1, 0, i32(params.keys)));
}
