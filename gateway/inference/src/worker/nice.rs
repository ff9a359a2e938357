//! Threads that compute give way to those that answer.
//!
//! An answer, and a refusal above all, takes the CPU for microseconds; a run takes all that it can
//! get. Where every core computes, a thread that wakes to answer would wait for a time slice of the
//! runs, so runs are what the system calls nicer. Elsewhere than on Linux, priorities belong to
//! processes, and nothing is changed.

/// Lets the calling thread, and the threads that it starts from now on, give way by `nice`.
pub(crate) fn give_way(nice: u8) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, i32::from(nice)) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Does `work`, which starts threads that compute, in a thread that gives way.
pub(crate) fn giving_way<T: Send>(nice: u8, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            give_way(nice);
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn threads_give_way_and_so_do_those_that_they_start() {
        let nice = || getpriority_process(None).unwrap();
        let before = nice();
        let given = 7.max(u8::try_from(before).unwrap_or(0));
        let inside = giving_way(given, || (nice(), std::thread::spawn(nice).join().unwrap()));
        assert_eq!(inside, (i32::from(given), i32::from(given)));
        assert_eq!(nice(), before);
    }
}
