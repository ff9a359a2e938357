// The keys that a query sees by its place: from one to before another. Bounds are cut so that
// these sums fit.

// How far the places of an entry's queries lie behind their numbers, and how many keys it has.
struct Entry {
    shift: i32,
    keys: u32,
}

fn entry_of_all(batch: u32) -> Entry {
    return Entry(0, params.keys);
}

fn entry_from_start(batch: u32) -> Entry {
    return Entry(0, u32(clamp(counts[batch], 0, i32(params.keys))));
}

fn entry_to_end(batch: u32) -> Entry {
    let count = clamp(counts[batch], 0, i32(params.keys));
    return Entry(count - i32(params.queries), u32(count));
}

fn from_start(entry: Entry, query: u32) -> u32 {
    return 0u;
}

fn from_first(entry: Entry, query: u32) -> u32 {
    return u32(clamp(i32(query) + entry.shift + params.first_seen, 0, i32(entry.keys)));
}

fn to_end(entry: Entry, query: u32) -> u32 {
    return entry.keys;
}

fn to_last(entry: Entry, query: u32) -> u32 {
    return u32(clamp(i32(query) + entry.shift + params.last_seen + 1, 0, i32(entry.keys)));
}
