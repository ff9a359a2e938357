use super::*;

/// The elements of `layout` over a row-major tensor that holds 0, 1, 2, …
fn elements(layout: &Layout) -> Vec<usize> {
    layout.positions().collect()
}

#[test]
fn a_transpose_walks_columns_first() {
    let layout = Layout::dense(&[2, 3]).transposed(&[1, 0]);
    assert_eq!(elements(&layout), [0, 3, 1, 4, 2, 5]);
    assert_eq!(layout.strides(), Some(vec![1, 3]));
    assert!(!layout.is_dense());
}

#[test]
fn steps_are_the_largest_of_each_axis() {
    let merged = Layout::dense(&[2, 3, 4]).transposed(&[0, 2, 1]).reshaped(&[2, 12]).unwrap();
    assert_eq!(merged.steps(), [Some(12), Some(4)]);
    let repeated = Layout::dense(&[3, 1]).expanded(&[2, 3, 1]);
    assert_eq!(repeated.steps(), [None, Some(1), None]);
}

#[test]
fn axes_that_do_not_merge_come_apart_again() {
    let heads = Layout::dense(&[2, 5, 3, 4]).transposed(&[0, 2, 1, 3]);
    let merged = heads.reshaped(&[6, 5, 4]).unwrap();
    assert_eq!(merged.strides(), None);
    let keys = merged.transposed(&[0, 2, 1]).reshaped(&[2, 3, 4, 5]).unwrap();
    assert_eq!(keys, Layout::dense(&[2, 5, 3, 4]).transposed(&[0, 2, 3, 1]));
}

#[test]
fn a_reshape_that_cuts_across_strides_needs_a_copy() {
    let layout = Layout::dense(&[2, 3]).transposed(&[1, 0]).reshaped(&[2, 3]);
    assert_eq!(layout, None);
}

#[test]
fn a_slice_can_walk_backwards() {
    let layout = Layout::dense(&[2, 4]).sliced(1, 3, -2, 2).unwrap();
    assert_eq!(elements(&layout), [3, 1, 7, 5]);
}

#[test]
fn an_expanded_axis_repeats() {
    let layout = Layout::dense(&[3, 1]).expanded(&[2, 3, 2]);
    assert_eq!(elements(&layout), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
}

#[test]
fn neighbours_joined_are_one_view() {
    let whole = Layout::dense(&[3, 2, 4]);
    let part =
        |axis: usize, start: usize, count: usize| whole.sliced(axis, start, 1, count).unwrap();
    for (axis, parts) in [
        (0, vec![part(0, 1, 1), part(0, 2, 1)]),
        (0, vec![part(0, 0, 1), part(0, 1, 2)]),
        (2, vec![part(2, 0, 2), part(2, 2, 1), part(2, 3, 1)]),
        // The same one twice repeats.
        (1, vec![part(1, 1, 1), part(1, 1, 1)]),
    ] {
        let joined = Layout::joined(&parts.iter().collect::<Vec<_>>(), axis).unwrap();
        let mut start = 0;
        for part in &parts {
            let count = part.shape()[axis];
            let own = joined.sliced(axis, start, 1, count).unwrap();
            assert_eq!(elements(&own), elements(part));
            start += count;
        }
        assert_eq!(joined.shape()[axis], start);
    }
    // Out of order, and with a gap.
    for (axis, parts) in [(0, [part(0, 2, 1), part(0, 0, 2)]), (2, [part(2, 0, 2), part(2, 3, 1)])]
    {
        assert_eq!(Layout::joined(&[&parts[0], &parts[1]], axis), None);
    }
}

#[test]
fn repeats_are_cut_where_there_are_some() {
    let shared = Layout::dense(&[2, 1, 3]).expanded(&[2, 4, 3]).reshaped(&[8, 3]).unwrap();
    assert_eq!(shared.one_of_each(0), Some(Layout::dense(&[2, 3])));
    assert_eq!(shared.one_of_each(1), None);
    assert_eq!(shared.once_along(0), None);
    let rows = Layout::dense(&[1, 3]).expanded(&[5, 3]);
    assert_eq!(rows.once_along(0), Some(Layout::dense(&[1, 3])));
    assert_eq!(rows.once_along(1), None);
}

#[test]
fn a_view_of_a_copy_is_a_view_of_its_source() {
    // The second of three column blocks, as heads.
    let inner = Layout::dense(&[4, 18]).sliced(1, 6, 1, 6).unwrap();
    let outer = Layout::dense(&[2, 2, 3, 2]).transposed(&[0, 2, 1, 3]);
    let direct = outer.over(&inner).unwrap();
    let block: Vec<usize> = inner.positions().collect();
    let through: Vec<usize> = outer.positions().map(|at| block[at]).collect();
    assert_eq!(elements(&direct), through);
    assert_eq!(direct.shape(), [2, 3, 2, 2]);
}

#[test]
fn a_view_that_mixes_rows_and_columns_of_its_source_needs_no_copy() {
    let inner = Layout::dense(&[3, 4]).transposed(&[1, 0]);
    let mixed = Layout::dense(&[2, 6]).over(&inner).unwrap();
    assert_eq!(elements(&mixed), elements(&inner));
    let halves = Layout::dense(&[2, 6]).reshaped(&[2, 2, 3]).unwrap().over(&inner).unwrap();
    assert_eq!(elements(&halves), elements(&inner));
}

#[test]
fn common_cuts_axes_where_any_view_does() {
    let dense = Layout::dense(&[6, 4]);
    let cut = Layout::dense(&[3, 2, 4]).transposed(&[1, 0, 2]).reshaped(&[6, 4]).unwrap();
    let (sizes, strides) = common(&[&dense, &cut]).unwrap();
    assert_eq!(sizes, [2, 3, 4]);
    assert_eq!(strides, [[12, 4, 1], [4, 8, 1]]);
}
