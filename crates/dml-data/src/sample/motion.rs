//! What the figures do: a pose for each moment.

use std::f32::consts::TAU;

use dml_rand::Stream;

use super::figure::{LEG, Pose, outward};

/// What a clip of the sample's labelled sets shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Wave,
    Clap,
    Walk,
    Jump,
    Squat,
    Kick,
    Punch,
    Bow,
    JumpingJack,
    SpinArms,
}

impl Action {
    pub(super) const ALL: [Self; 10] = [
        Self::Wave,
        Self::Clap,
        Self::Walk,
        Self::Jump,
        Self::Squat,
        Self::Kick,
        Self::Punch,
        Self::Bow,
        Self::JumpingJack,
        Self::SpinArms,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wave => "wave",
            Self::Clap => "clap",
            Self::Walk => "walk",
            Self::Jump => "jump",
            Self::Squat => "squat",
            Self::Kick => "kick",
            Self::Punch => "punch",
            Self::Bow => "bow",
            Self::JumpingJack => "jumping jack",
            Self::SpinArms => "spin arms",
        }
    }

    /// The pose at a phase (whole numbers begin a cycle) and a moment of the clip (from -0.5 to 0.5), facing right.
    fn pose(self, phase: f32, moment: f32, amplitude: f32) -> Pose {
        let sine = (TAU * phase).sin();
        let cosine = (TAU * phase).cos();
        // From 0 at the cycle's ends to 1 in its middle.
        let rise = amplitude * (1.0 - cosine) / 2.0;
        let mut pose = Pose::standing();
        match self {
            Self::Wave => pose.arms[1] = [2.1, 0.4 + 0.9 * amplitude * sine],
            Self::Clap => {
                let forearm = 4.1 - 1.7 * rise;
                let upper = 0.2 + 0.6 * rise;
                pose.arms = outward(upper, forearm - upper);
            }
            Self::Walk => {
                let swing = 0.6 * amplitude * sine;
                pose.hip = [0.5 * moment, LEG * (1.0 - swing.cos())];
                pose.legs = [[swing, -0.9 * cosine.max(0.0)], [-swing, -0.9 * (-cosine).max(0.0)]];
                pose.arms = [[-swing, 0.3], [swing, 0.3]];
            }
            Self::Jump => {
                let bend = 0.8 * amplitude * (-sine).max(0.0);
                let flight = 0.2 * amplitude * sine.max(0.0);
                pose.legs = outward(bend.max(0.1), -2.0 * bend);
                pose.hip[1] = LEG * (1.0 - bend.cos()) - flight;
                pose.arms = outward(0.35 + 4.0 * flight, 0.2);
            }
            Self::Squat => {
                let bend = 1.15 * rise;
                pose.legs = outward(bend.max(0.1), -2.0 * bend);
                pose.hip[1] = LEG * (1.0 - bend.cos());
                pose.arms = outward(0.25 + 0.7 * rise, 0.1);
            }
            Self::Kick => {
                pose.legs[1] = [-0.3 + 1.8 * rise, -0.9 * (1.0 - rise).max(0.0)];
                pose.lean = -0.2 * rise;
                pose.arms = [[0.4 * rise - 0.2, 0.2], [-0.5 * rise + 0.2, 0.2]];
            }
            Self::Punch => {
                pose.arms = [[0.2, 1.9], [0.2 + 1.35 * rise, 2.2 * (1.0 - rise).max(0.0)]];
                pose.lean = 0.15 * rise;
            }
            Self::Bow => {
                pose.lean = 1.3 * rise;
                pose.arms = [[-0.15, 0.1], [0.25, 0.1]];
            }
            Self::JumpingJack => {
                let spread = 0.1 + 0.45 * rise;
                pose.arms = outward(0.25 + 2.5 * rise, 0.1);
                pose.legs = outward(spread, 0.0);
                pose.hip[1] = LEG * (1.0 - spread.cos()) - 0.07 * sine.abs();
            }
            Self::SpinArms => {
                let turn = TAU * phase;
                pose.arms = [[turn, 0.1], [turn + TAU / 2.0, 0.1]];
            }
        }
        pose
    }
}

/// Which part swings in a clip of the pretraining set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    LeftArm,
    RightArm,
    BothArms,
    LeftLeg,
    RightLeg,
    WholeBody,
}

/// A class of the pretraining set: which part swings, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swing {
    part: Part,
    fast: bool,
}

impl Swing {
    /// Number of classes.
    pub(super) const COUNT: usize = 12;

    const PARTS: [(Part, &'static str); 6] = [
        (Part::LeftArm, "left arm"),
        (Part::RightArm, "right arm"),
        (Part::BothArms, "both arms"),
        (Part::LeftLeg, "left leg"),
        (Part::RightLeg, "right leg"),
        (Part::WholeBody, "whole body"),
    ];

    pub(super) fn of_class(class: usize) -> Self {
        Self { part: Self::PARTS[class / 2 % 6].0, fast: class % 2 == 1 }
    }

    pub(super) fn name(class: usize) -> String {
        format!("{}, {}", Self::PARTS[class / 2 % 6].1, if class % 2 == 1 { "fast" } else { "slow" })
    }
}

/// A motion with its speed, size and side drawn.
#[derive(Clone, Debug)]
pub(super) struct Motion {
    kind: Kind,
    stir: Stir,
    start: f32,
    cycles: f32,
    amplitude: f32,
}

/// Small movements beside the motion: arms and legs start a little off and sway, each at a rate of its own, so that
/// neither one frame nor the mere fact that a limb moves gives the motion away.
#[derive(Clone, Debug)]
struct Stir([Sway; 4]);

#[derive(Clone, Copy, Debug)]
struct Sway {
    offset: f32,
    extent: f32,
    cycles: f32,
    start: f32,
}

impl Stir {
    fn random(jitter: f32, stream: &mut Stream) -> Self {
        // Arms, then legs.
        Self([0.25, 0.25, 0.05, 0.05].map(|most| Sway {
            offset: jitter * stream.range(-most, most) as f32,
            extent: 0.5 * jitter * stream.range(0.0, most) as f32,
            cycles: stream.range(0.3, 1.5) as f32,
            start: stream.uniform() as f32,
        }))
    }

    fn add_to(&self, pose: &mut Pose, time: f32) {
        for (limb, sway) in pose.arms.iter_mut().chain(&mut pose.legs).zip(self.0) {
            limb[0] += sway.offset + sway.extent * (TAU * (sway.cycles * time + sway.start)).sin();
        }
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Action { action: Action, mirrored: bool },
    Swing { part: Part, rest: Pose },
}

impl Motion {
    /// `jitter` scales how far speed and extent may be from the action's plain ones, and how much limbs stir.
    pub(super) fn of_action(action: Action, jitter: f32, stream: &mut Stream) -> Self {
        Self {
            start: stream.uniform() as f32,
            cycles: 1.15 + jitter * stream.range(-0.45, 0.45) as f32,
            amplitude: 0.95 + jitter * stream.range(-0.25, 0.15) as f32,
            stir: Stir::random(jitter, stream),
            kind: Kind::Action { action, mirrored: stream.chance(0.5) },
        }
    }

    /// As for an action; the speed is the class's.
    pub(super) fn of_swing(swing: Swing, jitter: f32, stream: &mut Stream) -> Self {
        let cycles = if swing.fast { stream.range(1.7, 2.6) } else { stream.range(0.6, 1.1) };
        let mut limb = |low, high, bend| [stream.range(low, high) as f32, stream.range(0.0, bend) as f32];
        let [left, right] = [limb(0.2, 2.2, 0.8), limb(0.2, 2.2, 0.8)];
        let legs = [limb(0.05, 0.3, 0.1), limb(0.05, 0.3, 0.1)];
        let rest = Pose {
            lean: limb(-0.15, 0.15, 1.0)[0],
            arms: [left.map(|a| -a), right],
            legs: [legs[0].map(|a| -a), legs[1]],
            ..Pose::standing()
        };
        Self {
            start: stream.uniform() as f32,
            cycles: cycles as f32,
            amplitude: 0.9 + jitter * stream.range(-0.2, 0.2) as f32,
            // Half as much: what stirs must not look like what swings.
            stir: Stir::random(0.5 * jitter, stream),
            kind: Kind::Swing { part: swing.part, rest },
        }
    }

    /// The pose in this frame of so many.
    pub(super) fn pose(&self, frame: usize, frames: usize) -> Pose {
        let time = frame as f32 / frames as f32;
        let phase = self.start + self.cycles * time;
        let mut pose = match &self.kind {
            Kind::Action { action, mirrored } => {
                let pose = action.pose(phase, time - 0.5, self.amplitude);
                if *mirrored { pose.mirrored() } else { pose }
            }
            Kind::Swing { part, rest } => {
                let swing = self.amplitude * (TAU * phase).sin();
                let mut pose = *rest;
                let turn = |limb: &mut [f32; 2], by: f32| {
                    limb[0] += by;
                    limb[1] += 0.5 * by;
                };
                match part {
                    Part::LeftArm => turn(&mut pose.arms[0], -swing),
                    Part::RightArm => turn(&mut pose.arms[1], swing),
                    Part::BothArms => {
                        turn(&mut pose.arms[0], -swing);
                        turn(&mut pose.arms[1], swing);
                    }
                    Part::LeftLeg => turn(&mut pose.legs[0], -0.4 - 0.6 * swing),
                    Part::RightLeg => turn(&mut pose.legs[1], 0.4 + 0.6 * swing),
                    Part::WholeBody => pose.hip[1] = -0.12 * (self.amplitude + swing),
                }
                pose
            }
        };
        self.stir.add_to(&mut pose, time);
        pose
    }
}

#[cfg(test)]
mod tests {
    use dml_rand::Purpose;

    use super::*;

    #[test]
    fn every_action_moves_and_comes_back_after_a_cycle() {
        for action in Action::ALL {
            let at = |phase| action.pose(phase, 0.0, 1.0);
            assert_ne!(at(0.1), at(0.5), "{action:?}");
            let (first, last) = (at(0.2), at(1.2));
            for (a, b) in first.arms.iter().chain(&first.legs).zip(last.arms.iter().chain(&last.legs)) {
                assert!((a[0].sin() - b[0].sin()).abs() < 1e-4 && (a[1] - b[1]).abs() < 1e-4, "{action:?}");
            }
        }
    }

    #[test]
    fn actions_differ_from_each_other() {
        for (i, a) in Action::ALL.into_iter().enumerate() {
            for b in Action::ALL.into_iter().skip(i + 1) {
                assert_ne!(a.pose(0.3, 0.1, 1.0), b.pose(0.3, 0.1, 1.0), "{a:?} {b:?}");
                assert_ne!(a.name(), b.name());
            }
        }
    }

    #[test]
    fn a_swing_moves_its_part_only() {
        for class in 0..Swing::COUNT {
            let swing = Swing::of_class(class);
            let motion = Motion::of_swing(swing, 0.0, &mut Stream::new(0, Purpose::Test, 0, class as u64));
            let (a, b) = (motion.pose(0, 8), motion.pose(1, 8));
            let moved = [
                a.arms[0] != b.arms[0],
                a.arms[1] != b.arms[1],
                a.legs[0] != b.legs[0],
                a.legs[1] != b.legs[1],
                a.hip != b.hip,
            ];
            let wanted = match swing.part {
                Part::LeftArm => [true, false, false, false, false],
                Part::RightArm => [false, true, false, false, false],
                Part::BothArms => [true, true, false, false, false],
                Part::LeftLeg => [false, false, true, false, false],
                Part::RightLeg => [false, false, false, true, false],
                Part::WholeBody => [false, false, false, false, true],
            };
            assert_eq!(moved, wanted, "{}", Swing::name(class));
            assert_eq!(swing.fast, motion.cycles > 1.4);
        }
    }
}
