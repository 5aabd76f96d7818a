//! Work done by several threads and taken in order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

struct State<R> {
    next: usize,
    taken: usize,
    ready: BTreeMap<usize, R>,
    closed: bool,
}

/// Calls `work` for each number below `count` from `threads` threads, and `take` with the results in the order of the
/// numbers, from this thread, until it fails. At most `2 · threads` results wait.
pub(crate) fn in_order<R: Send, E>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> R + Sync,
    mut take: impl FnMut(usize, R) -> Result<(), E>,
) -> Result<(), E> {
    let ahead = 2 * threads.max(1);
    let state = Mutex::new(State { next: 0, taken: 0, ready: BTreeMap::new(), closed: false });
    let changed = Condvar::new();
    let worker = || {
        loop {
            let number = {
                let mut state = lock(&state);
                while !state.closed && state.next < count && state.next >= state.taken + ahead {
                    state = changed.wait(state).unwrap_or_else(|e| e.into_inner());
                }
                if state.closed || state.next >= count {
                    return;
                }
                state.next += 1;
                state.next - 1
            };
            // Also if `work` panics, nobody waits for ever; the scope passes the panic on.
            let close = CloseOnPanic { state: &state, changed: &changed };
            let result = work(number);
            std::mem::forget(close);
            lock(&state).ready.insert(number, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(worker);
        }
        let mut done = Ok(());
        for number in 0..count {
            let mut held = lock(&state);
            let result = loop {
                match held.ready.remove(&number) {
                    Some(result) => break Some(result),
                    None if held.closed => break None,
                    None => held = changed.wait(held).unwrap_or_else(|e| e.into_inner()),
                }
            };
            drop(held);
            let Some(result) = result else { break };
            done = take(number, result);
            if done.is_err() {
                break;
            }
            lock(&state).taken = number + 1;
            changed.notify_all();
        }
        lock(&state).closed = true;
        changed.notify_all();
        done
    })
}

struct CloseOnPanic<'a, R> {
    state: &'a Mutex<State<R>>,
    changed: &'a Condvar,
}

impl<R> Drop for CloseOnPanic<'_, R> {
    fn drop(&mut self) {
        lock(self.state).closed = true;
        self.changed.notify_all();
    }
}

fn lock<R>(state: &Mutex<State<R>>) -> MutexGuard<'_, State<R>> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_wait() {
        for threads in [1, 2, 5] {
            let (begun, ahead) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut taken = Vec::new();
            let work = |n: usize| {
                begun.fetch_add(1, Ordering::SeqCst);
                if n.is_multiple_of(3) {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                n * n
            };
            let done: Result<(), ()> = in_order(40, threads, work, |n, square| {
                ahead.fetch_max(begun.load(Ordering::SeqCst) - n, Ordering::SeqCst);
                taken.push((n, square));
                Ok(())
            });
            assert_eq!(done, Ok(()));
            assert_eq!(taken, (0..40).map(|n| (n, n * n)).collect::<Vec<_>>());
            assert!(ahead.into_inner() <= 2 * threads, "{threads} threads ran too far ahead");
        }
    }

    #[test]
    fn the_first_failure_ends_it() {
        let done = in_order(1000, 3, |n| n, |n, _| if n == 7 { Err("seven") } else { Ok(()) });
        assert_eq!(done, Err("seven"));
    }
}
