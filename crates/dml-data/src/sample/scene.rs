//! A clip: an actor with an object before a cluttered background, filmed by a shaking, noisy camera.

use dml_rand::Stream;

use super::SampleConfig;
use super::figure::{Figure, Joints};
use super::motion::Motion;
use super::raster::{Canvas, Colour, Point, SIDE, add, polar};

/// The colours of clothes, by name.
pub(super) const CLOTHES: [(&str, Colour); 6] = [
    ("red", [205.0, 40.0, 40.0]),
    ("blue", [45.0, 75.0, 210.0]),
    ("green", [40.0, 150.0, 60.0]),
    ("yellow", [225.0, 205.0, 50.0]),
    ("white", [232.0, 232.0, 232.0]),
    ("purple", [140.0, 50.0, 175.0]),
];

/// A thing in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Ball,
    Box,
    Stick,
    Flag,
    Hat,
    Umbrella,
}

impl Object {
    pub(super) const ALL: [Self; 6] =
        [Self::Ball, Self::Box, Self::Stick, Self::Flag, Self::Hat, Self::Umbrella];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ball => "ball",
            Self::Box => "box",
            Self::Stick => "stick",
            Self::Flag => "flag",
            Self::Hat => "hat",
            Self::Umbrella => "umbrella",
        }
    }
}

/// What there is to say about a clip, besides what happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Which of [`CLOTHES`].
    pub(super) clothes: usize,
    pub(super) tall: bool,
    pub(super) object: Object,
    /// Held in a hand (a hat: worn), or beside the actor.
    pub(super) held: bool,
}

impl Content {
    pub(super) fn random(stream: &mut Stream) -> Self {
        Self {
            clothes: stream.below(CLOTHES.len()),
            tall: stream.chance(0.5),
            object: *stream.pick(&Object::ALL),
            held: stream.chance(0.6),
        }
    }
}

/// A clip's pixels.
///
/// # Shapes
/// (3, frames, size, size), row-major.
pub(super) fn render(
    config: &SampleConfig,
    content: Content,
    motion: &Motion,
    stream: &mut Stream,
) -> Vec<u8> {
    let SampleConfig { frames, size, .. } = *config;
    let plane = size * size;
    let background = Background::random(config.clutter, stream);
    let actor = Actor::random(content, stream);
    let brightness = stream.range(0.8, 1.15) as f32;
    let mut shift = [0.0f32; 2];
    let mut pixels = vec![0; 3 * frames * plane];
    for frame in 0..frames {
        let mut canvas = Canvas::new(size, shift);
        background.paint(&mut canvas, frame as f32 / frames as f32);
        actor.paint(&mut canvas, motion, frame, frames);
        let gain = brightness * stream.range(0.96, 1.04) as f32;
        for (place, pixel) in canvas.pixels.chunks_exact(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                let noisy = value * gain + config.noise * noise(stream);
                pixels[(channel * frames + frame) * plane + place] = noisy.round().clamp(0.0, 255.0) as u8;
            }
        }
        let step = f64::from(config.shake);
        shift = shift.map(|v| (v + stream.range(-step, step) as f32).clamp(-3.0, 3.0));
    }
    pixels
}

/// Nearly normal, with mean 0 and standard deviation 1: a sum of four bytes, since there are many pixels.
fn noise(stream: &mut Stream) -> f32 {
    let sum: u32 = stream.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
    // A byte has mean 127.5 and variance (256² - 1) / 12.
    (sum as f32 - 510.0) / 147.8
}

fn colour(low: f64, high: f64, stream: &mut Stream) -> Colour {
    [(); 3].map(|()| stream.range(low, high) as f32)
}

/// Nearly grey.
fn muted(low: f64, high: f64, stream: &mut Stream) -> Colour {
    let grey = stream.range(low, high);
    colour(grey - 20.0, grey + 20.0, stream)
}

fn point(x: [f64; 2], y: [f64; 2], stream: &mut Stream) -> Point {
    [stream.range(x[0], x[1]) as f32, stream.range(y[0], y[1]) as f32]
}

struct Background {
    colours: [Colour; 2],
    angle: f32,
    clutter: Vec<Clutter>,
}

struct Clutter {
    at: Point,
    /// Half the extent.
    half: Point,
    /// Movement over the clip.
    drift: Point,
    colour: Colour,
    shape: usize,
}

impl Background {
    fn random(most: usize, stream: &mut Stream) -> Self {
        let colours = [muted(25.0, 95.0, stream), muted(25.0, 95.0, stream)];
        let angle = stream.range(0.0, std::f64::consts::TAU) as f32;
        let least = most.div_ceil(2);
        let count = least + stream.below(most - least + 1);
        let clutter = (0..count).map(|_| Clutter::random(stream)).collect();
        Self { colours, angle, clutter }
    }

    fn paint(&self, canvas: &mut Canvas, time: f32) {
        canvas.gradient(self.colours[0], self.colours[1], self.angle);
        for Clutter { at, half, drift, colour, shape } in &self.clutter {
            let at = add(*at, drift.map(|v| v * time));
            match shape {
                0 => canvas.disc(at, half[0], *colour),
                1 => canvas.rectangle(at, half.map(f32::abs), *colour),
                _ => canvas.capsule(add(at, *half), add(at, half.map(|v| -v)), 0.7, *colour),
            }
        }
    }
}

impl Clutter {
    fn random(stream: &mut Stream) -> Self {
        let side = f64::from(SIDE);
        let shape = stream.below(3);
        let half = match shape {
            2 => point([-7.0, 7.0], [-7.0, 7.0], stream),
            _ => point([1.0, 4.0], [1.0, 4.0], stream),
        };
        let drifts = stream.chance(0.5);
        let drift = point([-4.0, 4.0], [-3.0, 3.0], stream).map(|v| if drifts { v } else { 0.0 });
        let at = point([0.0, side], [0.0, side], stream);
        Self { at, half, drift, colour: muted(30.0, 150.0, stream), shape }
    }
}

struct Actor {
    content: Content,
    figure: Figure,
    ground: Point,
    object_colour: Colour,
    /// Which hand holds the object.
    hand: usize,
    /// Where the object lies if it is beside the actor.
    beside: Point,
    /// Angle of a held pole, from upright.
    tilt: f32,
}

impl Actor {
    fn random(content: Content, stream: &mut Stream) -> Self {
        let height = if content.tall { stream.range(23.5, 26.0) } else { stream.range(17.0, 19.5) };
        let ground = point([13.5, 18.5], [28.0, 30.0], stream);
        let clothes = CLOTHES[content.clothes].1;
        let clothes = clothes.map(|v| (v + stream.range(-18.0, 18.0) as f32).clamp(0.0, 255.0));
        let away = stream.range(8.0, 10.0) as f32;
        // On the side with more room.
        let side = if ground[0] < SIDE / 2.0 { 1.0 } else { -1.0 };
        Self {
            content,
            figure: Figure::random(height as f32, clothes, stream),
            ground,
            object_colour: colour(20.0, 235.0, stream),
            hand: stream.below(2),
            beside: [ground[0] + side * away, ground[1] - 0.5],
            tilt: stream.range(-0.4, 0.4) as f32,
        }
    }

    fn paint(&self, canvas: &mut Canvas, motion: &Motion, frame: usize, frames: usize) {
        let joints = self.figure.paint(canvas, self.ground, &motion.pose(frame, frames));
        if self.content.held {
            self.paint_held(canvas, &joints);
        } else {
            self.paint_beside(canvas);
        }
    }

    fn paint_held(&self, canvas: &mut Canvas, joints: &Joints) {
        let hand = joints.hands[self.hand];
        let grip = add(hand, polar(self.tilt, 2.0));
        match self.content.object {
            Object::Ball => canvas.disc(hand, 2.2, self.object_colour),
            Object::Box => canvas.rectangle(hand, [2.1, 2.0], self.object_colour),
            Object::Hat => {
                let brim = add(joints.head, [0.0, -0.55 * joints.head_radius]);
                self.paint_hat(canvas, brim, joints.head_radius);
            }
            pole => self.paint_pole(canvas, pole, grip, self.tilt),
        }
    }

    fn paint_beside(&self, canvas: &mut Canvas) {
        let at = self.beside;
        match self.content.object {
            Object::Ball => canvas.disc(add(at, [0.0, -2.0]), 2.2, self.object_colour),
            Object::Box => canvas.rectangle(add(at, [0.0, -2.0]), [2.1, 2.0], self.object_colour),
            Object::Hat => self.paint_hat(canvas, at, 2.2),
            pole => self.paint_pole(canvas, pole, at, 0.0),
        }
    }

    fn paint_hat(&self, canvas: &mut Canvas, brim: Point, radius: f32) {
        canvas.rectangle(add(brim, [0.0, -0.7 * radius]), [0.75 * radius, 0.7 * radius], self.object_colour);
        let half = 1.5 * radius;
        canvas.capsule(add(brim, [-half, 0.0]), add(brim, [half, 0.0]), 0.5, self.object_colour);
    }

    /// A stick, a flag or an umbrella, from its lower end.
    fn paint_pole(&self, canvas: &mut Canvas, object: Object, foot: Point, tilt: f32) {
        let up = |length| add(foot, polar(std::f32::consts::PI + tilt, length));
        let top = up(9.0);
        match object {
            Object::Flag => {
                canvas.capsule(foot, top, 0.4, [90.0, 70.0, 50.0]);
                canvas.rectangle(add(top, [2.6, 1.6]), [2.6, 1.8], self.object_colour);
            }
            Object::Umbrella => {
                canvas.capsule(foot, top, 0.4, [60.0, 60.0, 60.0]);
                canvas.dome(add(top, [0.0, 1.0]), 4.3, self.object_colour);
            }
            _ => canvas.capsule(foot, up(10.0), 0.65, self.object_colour),
        }
    }
}
