//! Runs side by side.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::keep::RunFolder;
use super::{Planned, SweepRun, SweepSettings, keep};
use crate::event::Event;
use crate::experiment::Experiment;
use crate::{Result, TrainError};

/// A run to be run.
pub(super) struct Job {
    pub(super) number: usize,
    pub(super) hash: String,
    pub(super) experiment: Experiment,
}

/// What a worker has to tell, with the run's number.
pub(super) enum Message {
    Event(usize, Event),
    Finished(usize, Box<SweepRun>, f64),
    Failed(usize, TrainError),
}

/// Runs the jobs, as many at once as the settings say. `listen` hears of everything on the calling thread; no job is
/// begun after it has answered false.
pub(super) fn run(
    plan: &[Planned],
    jobs: Vec<Job>,
    settings: &SweepSettings,
    listen: &mut dyn FnMut(Message) -> Result<bool>,
) -> Result<()> {
    let workers = settings.jobs.clamp(1, jobs.len().max(1));
    let pools: Vec<Option<ThreadPool>> = (0..workers).map(|_| pool(workers)).collect::<Result<_>>()?;
    let (jobs, halted) = (Mutex::new(VecDeque::from(jobs)), AtomicBool::new(false));
    let next = || {
        let over = halted.load(Ordering::Relaxed) || settings.stop.load(Ordering::Relaxed);
        if over { None } else { jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front() }
    };
    std::thread::scope(|scope| {
        let (send, receive) = channel();
        for pool in pools {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(job) = next() {
                    let work = || one(&plan[job.number], &job, settings, &send);
                    let done = pool.as_ref().map_or_else(work, |pool| pool.install(work));
                    let message = match done {
                        Ok(Some((run, seconds))) => Message::Finished(job.number, Box::new(run), seconds),
                        Ok(None) => continue,
                        Err(error) => Message::Failed(job.number, error),
                    };
                    // Nobody listens any more once writing the sweep has failed.
                    if send.send(message).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut result = Ok(());
        for message in receive {
            match listen(message) {
                Ok(true) => {}
                Ok(false) => halted.store(true, Ordering::Relaxed),
                Err(error) => {
                    halted.store(true, Ordering::Relaxed);
                    result = Err(error);
                    break;
                }
            }
        }
        result
    })
}

/// The threads of one of several workers; a worker alone takes those of the process.
fn pool(workers: usize) -> Result<Option<ThreadPool>> {
    if workers == 1 {
        return Ok(None);
    }
    let threads = (rayon::current_num_threads() / workers).max(1);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map(Some).map_err(|error| TrainError::invalid(format!("starting {threads} threads: {error}")))
}

/// Carries out one run; none if it was interrupted.
fn one(
    planned: &Planned,
    job: &Job,
    settings: &SweepSettings,
    send: &Sender<Message>,
) -> Result<Option<(SweepRun, f64)>> {
    let began = Instant::now();
    let path = settings.folder.join(keep::below(&job.hash));
    let mut folder = RunFolder::create(path, &planned.config, &settings.environment)?;
    let mut run = planned.run(&settings.stop);
    if settings.checkpoints {
        (run.folder, run.resume) = (Some(folder.path().to_path_buf()), true);
    }
    let params = job.experiment.params(run.seed)?;
    let outcome = job.experiment.run_from(&params, &run, &mut |event| {
        folder.log(event);
        // A run ends with its results on disk, whoever listens.
        let _ = send.send(Message::Event(job.number, event.clone()));
    })?;
    if outcome.interrupted {
        folder.close()?;
        return Ok(None);
    }
    let path = folder.path().to_path_buf();
    // A run with checkpoints has left its network itself.
    folder.finish(&outcome.scores, (settings.models && !settings.checkpoints).then_some(&params))?;
    let record = planned.record(&job.hash, outcome.scores, keep::history(&path)?.switch_costs());
    Ok(Some((record, began.elapsed().as_secs_f64())))
}
