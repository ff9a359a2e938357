// One element, or four neighbours, per invocation. The header gives WIDTH and `compute`.

fn elements(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index < params.count) {
        compute(index);
    }
}
