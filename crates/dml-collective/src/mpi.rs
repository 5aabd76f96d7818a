//! Ranks that MPI has started, through rsmpi.

mod world;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::traits::{BufferMut, Communicator, CommunicatorCollectives, Equivalence, Root};

use crate::wire::{Packed, mean_in_order};
use crate::{Collective, CollectiveError, Launch, Lost, Result, Wire};
use world::{Answers, World};

/// How long a wait keeps asking before it leaves the core to others between two questions.
const EAGER: Duration = Duration::from_millis(1);
/// How long it leaves it then: MPI moves data only while it is asked.
const PAUSE: Duration = Duration::from_micros(50);

pub(crate) struct Mpi {
    // Held for as long as MPI may be called; ends MPI when dropped.
    _universe: Universe,
    world: Arc<World>,
    answering: Option<JoinHandle<()>>,
    rank: usize,
    size: usize,
    limit: Duration,
    lost: Lost,
}

// SAFETY: the universe is only held, and all else is such by itself.
unsafe impl Send for Mpi {}
// SAFETY: as above.
unsafe impl Sync for Mpi {}

/// How long a call waits for the other ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// No longer than the limit.
    Limited,
    /// For as long as their processes answer.
    Long,
}

impl Mpi {
    pub(crate) fn start(launch: &Launch, limit: Duration, lost: Lost) -> Result<Self> {
        let launched = |problem: String| CollectiveError::Launch(problem);
        let (universe, level) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| launched("MPI is running in this process already".into()))?;
        if level < Threading::Serialized {
            let problem = format!("this MPI gives threads the level {level:?}; dml needs Serialized or more");
            return Err(launched(problem));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if size != launch.size {
            return Err(launched(format!(
                "{} processes were started, and MPI sees {size}: start them with the mpirun of the MPI that dml was \
                 built with (for Slurm, `srun --mpi=pmix`)",
                launch.size
            )));
        }
        let world = World::new(world);
        let answering = world.answer().map_err(|error| launched(format!("starting a thread: {error}")))?;
        Ok(Self { _universe: universe, world, answering: Some(answering), rank, size, limit, lost })
    }

    /// Waits without keeping a core from those who compute. Where a rank does not come it ends all: MPI may still write to
    /// what belongs to the request.
    fn settle<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>, patience: Patience) {
        let began = Instant::now();
        let (mut since, mut fruitless) = (began, 0);
        self.world.waits.store(true, Ordering::Relaxed);
        loop {
            let world = self.world.lock();
            match request.test() {
                Ok(_) => break,
                Err(again) => request = again,
            }
            drop(world);
            if since.elapsed() > self.limit {
                let Answers { silent, busy } = self.world.ask(self.grace());
                let absent = !silent.is_empty() || !busy.is_empty();
                // They may have come just now.
                fruitless = if absent { 0 } else { fruitless + 1 };
                let bearable = patience == Patience::Long && silent.is_empty();
                if fruitless > 1 || absent && !bearable {
                    self.end(&CollectiveError::Late { silent, busy, limit: self.limit });
                }
                since = Instant::now();
            }
            match began.elapsed() < EAGER {
                true => std::thread::yield_now(),
                false => std::thread::sleep(PAUSE),
            }
        }
        self.world.waits.store(false, Ordering::Relaxed);
    }

    /// How long the ranks may take to answer; they look ten times a second whether they are asked.
    fn grace(&self) -> Duration {
        (self.limit / 4).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }

    fn end(&self, error: &CollectiveError) -> ! {
        (self.lost)(error);
        self.abort(1)
    }

    fn take_rank_0s<B: BufferMut + ?Sized>(&self, buffer: &mut B) {
        scope(|scope| {
            let world = self.world.lock();
            let request = world.process_at_rank(0).immediate_broadcast_into(scope, buffer);
            drop(world);
            self.settle(request, Patience::Limited);
        });
    }

    /// Each rank sums a piece of everybody's values, in the order of the ranks, and all get all pieces: as much data as
    /// a ring moves, and bits that do not depend on which algorithm MPI chooses.
    fn reduce<T: Packed + Equivalence>(&self, values: &mut [f32]) -> Result<()> {
        let piece = values.len().div_ceil(self.size);
        count(piece * self.size)?;
        let mut own: Vec<T> = values.iter().map(|&value| T::pack(value)).collect();
        own.resize(piece * self.size, T::default());
        let mut all = vec![T::default(); own.len()];
        scope(|scope| {
            let request = self.world.lock().immediate_all_to_all_into(scope, &own[..], &mut all[..]);
            self.settle(request, Patience::Limited);
        });
        let mean = mean_in_order(all.chunks_exact(piece.max(1)));
        scope(|scope| {
            let request = self.world.lock().immediate_all_gather_into(scope, &mean[..], &mut all[..]);
            self.settle(request, Patience::Limited);
        });
        values.iter_mut().zip(all).for_each(|(value, mean)| *value = mean.unpack());
        Ok(())
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi({} of {})", self.rank, self.size)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Ending MPI waits for all ranks, and those that do not panic wait for this one.
        if std::thread::panicking() {
            self.abort(101);
        }
        // MPI itself would wait without a limit.
        let request = self.world.lock().immediate_barrier();
        self.settle(request, Patience::Long);
        if let Some(answering) = self.answering.take() {
            self.world.close(answering);
        }
    }
}

/// MPI counts in i32.
fn count(length: usize) -> Result<i32> {
    let problem = || CollectiveError::Message(format!("{length} bytes at once are more than MPI can count"));
    i32::try_from(length).map_err(|_| problem())
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce_mean(&self, values: &mut [f32], wire: Wire) -> Result<()> {
        match wire {
            Wire::F32 => self.reduce::<f32>(values),
            Wire::Bf16 => self.reduce::<u16>(values),
        }
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut length = [count(bytes.len())?];
        self.take_rank_0s(&mut length[..]);
        bytes.resize(length[0] as usize, 0);
        self.take_rank_0s(&mut bytes[..]);
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (own, mut lengths) = ([count(bytes.len())?], vec![0i32; self.size]);
        scope(|scope| {
            let request = self.world.lock().immediate_all_gather_into(scope, &own[..], &mut lengths[..]);
            self.settle(request, Patience::Limited);
        });
        let total: usize = lengths.iter().map(|&length| length as usize).sum();
        count(total)?;
        let mut places = Vec::with_capacity(self.size);
        let mut place = 0;
        for length in &lengths {
            places.push(place);
            place += length;
        }
        let mut all = vec![0u8; total];
        {
            let mut parts = PartitionMut::new(&mut all[..], &lengths[..], &places[..]);
            scope(|scope| {
                let request = self.world.lock().immediate_all_gather_varcount_into(scope, bytes, &mut parts);
                self.settle(request, Patience::Limited);
            });
        }
        let of = |(&length, &place): (&i32, &i32)| all[place as usize..][..length as usize].to_vec();
        Ok(lengths.iter().zip(&places).map(of).collect())
    }

    fn barrier(&self) -> Result<()> {
        let request = self.world.lock().immediate_barrier();
        self.settle(request, Patience::Long);
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        self.world.lock().abort(code)
    }
}
