//! Where the time of a run goes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Device;

use crate::Result;

/// A clock that is read at the end of each part of the work. It waits for the device there, or the time would be that of
/// asking and not of computing; while it is off it does nothing.
pub(super) struct Profile(Option<Clock>);

struct Clock {
    device: Device,
    laps: RefCell<(Instant, BTreeMap<&'static str, Duration>)>,
}

impl Profile {
    pub(super) fn new(on: bool, device: &Device) -> Self {
        let clock =
            || Clock { device: device.clone(), laps: RefCell::new((Instant::now(), BTreeMap::new())) };
        Self(on.then(clock))
    }

    /// The time since the last lap was this part's.
    pub(super) fn lap(&self, part: &'static str) -> Result<()> {
        if let Some(clock) = &self.0 {
            clock.device.synchronize()?;
            let (last, parts) = &mut *clock.laps.borrow_mut();
            let now = Instant::now();
            *parts.entry(part).or_default() += now - *last;
            *last = now;
        }
        Ok(())
    }

    /// Seconds of each part since this was last asked; none while it is off.
    pub(super) fn take(&self) -> BTreeMap<String, f64> {
        let parts = self.0.as_ref().map(|clock| std::mem::take(&mut clock.laps.borrow_mut().1));
        parts.into_iter().flatten().map(|(part, time)| (part.to_string(), time.as_secs_f64())).collect()
    }
}
