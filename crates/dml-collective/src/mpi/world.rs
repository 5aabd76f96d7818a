//! The communicator of all ranks, and who answers on it: every rank has a thread that answers for it, whatever else it does,
//! so that one who has waited for long learns which ranks it waits for.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mpi::Tag;
use mpi::point_to_point::Status;
use mpi::request::StaticScope;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

/// Asks whether a rank waits for the others.
const QUESTION: Tag = 1;
/// Says so.
const ANSWER: Tag = 2;
/// How often a rank looks whether it is asked.
const LOOK: Duration = Duration::from_millis(100);

// MPI may read what was sent at any time.
static WORKS: [u8; 1] = [0];
static WAITS: [u8; 1] = [1];

/// The communicator, which one thread calls at a time.
pub(super) struct World {
    communicator: Mutex<SimpleCommunicator>,
    /// Whether this rank is in a call that waits for all others.
    pub(super) waits: AtomicBool,
    over: AtomicBool,
}

// SAFETY: MPI was started with a level at which any thread may call it while no other does, and the lock sees to that.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

/// What the other ranks answer.
#[derive(Default)]
pub(super) struct Answers {
    /// Those that do not.
    pub(super) silent: Vec<usize>,
    /// Those that do not wait.
    pub(super) busy: Vec<usize>,
}

impl World {
    pub(super) fn new(communicator: SimpleCommunicator) -> Arc<Self> {
        let [waits, over] = [false, false].map(AtomicBool::new);
        Arc::new(Self { communicator: Mutex::new(communicator), waits, over })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SimpleCommunicator> {
        self.communicator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for this rank until [`close`](Self::close).
    pub(super) fn answer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let world = self.clone();
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            while !world.over.load(Ordering::Acquire) {
                while let Some((_, other)) = world.receive(QUESTION) {
                    let waits = world.waits.load(Ordering::Relaxed);
                    world.send(other, if waits { &WAITS } else { &WORKS }, ANSWER);
                }
                std::thread::park_timeout(LOOK);
            }
        })
    }

    pub(super) fn close(&self, answering: JoinHandle<()>) {
        self.over.store(true, Ordering::Release);
        answering.thread().unpark();
        // If it has panicked, there is nothing left of it to end.
        let _ = answering.join();
    }

    /// Asks all others whether they wait too, and gives them some time to answer.
    pub(super) fn ask(&self, limit: Duration) -> Answers {
        let (rank, size) = {
            let world = self.lock();
            (world.rank() as usize, world.size() as usize)
        };
        // Those who were late when they were asked before.
        while self.receive(ANSWER).is_some() {}
        let others = (0..size).filter(|&other| other != rank);
        others.clone().for_each(|other| self.send(other, &WORKS, QUESTION));
        let (began, mut heard) = (Instant::now(), vec![None; size]);
        while began.elapsed() < limit && others.clone().any(|other| heard[other].is_none()) {
            match self.receive(ANSWER) {
                Some((answer, other)) => heard[other] = Some(answer),
                None => std::thread::sleep(LOOK / 10),
            }
        }
        Answers {
            silent: others.clone().filter(|&other| heard[other].is_none()).collect(),
            busy: others.filter(|&other| heard[other] == Some(WORKS[0])).collect(),
        }
    }

    /// A message with this tag, if one has come, and from whom.
    fn receive(&self, tag: Tag) -> Option<(u8, usize)> {
        let world = self.lock();
        let (message, _) = world.any_process().immediate_matched_probe_with_tag(tag)?;
        let (content, status): (u8, Status) = message.matched_receive();
        Some((content, status.source_rank() as usize))
    }

    fn send(&self, other: usize, content: &'static [u8; 1], tag: Tag) {
        let world = self.lock();
        let process = world.process_at_rank(other as i32);
        // Nobody waits until it has arrived, which it may never do.
        mem::forget(process.immediate_send_with_tag(StaticScope, &content[..], tag));
    }
}
