// Rows that indices name. The header gives Part (f32 or a vec4), and embed_row, which combines
// the rows of all sources.

// -1 where an index is outside.
fn table_row(index: i32, rows: u32) -> i32 {
    let place = select(index, index + i32(rows), index < 0i);
    return select(-1i, place, place >= 0i && place < i32(rows));
}

fn four_bytes_of(word: u32, scale: f32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word)) * scale;
}
