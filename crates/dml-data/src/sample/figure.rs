//! An articulated figure.

use dml_rand::Stream;

use super::raster::{Canvas, Colour, Point, add, polar};

/// How the figure stands. Angles in radians: 0 hangs down (the torso: stands up), positive turns to the picture's right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pose {
    /// Where the hip is, from its place when standing straight; in heights of the figure, y down.
    pub(super) hip: Point,
    pub(super) lean: f32,
    /// Left and right in the picture: the upper arm's angle, and the forearm's from there.
    pub(super) arms: [[f32; 2]; 2],
    /// Left and right in the picture: the thigh's angle, and the shin's from there.
    pub(super) legs: [[f32; 2]; 2],
}

impl Pose {
    pub(super) fn standing() -> Self {
        Self { hip: [0.0; 2], lean: 0.0, arms: outward(0.25, 0.1), legs: outward(0.12, 0.0) }
    }

    /// The mirrored pose: left and right change places.
    pub(super) fn mirrored(self) -> Self {
        let swap = |[left, right]: [[f32; 2]; 2]| [right.map(|a| -a), left.map(|a| -a)];
        Self {
            hip: [-self.hip[0], self.hip[1]],
            lean: -self.lean,
            arms: swap(self.arms),
            legs: swap(self.legs),
        }
    }
}

/// Both limbs at these angles, away from the body.
pub(super) fn outward(first: f32, second: f32) -> [[f32; 2]; 2] {
    [[-first, -second], [first, second]]
}

/// Length of a straight leg, in heights of the figure.
pub(super) const LEG: f32 = 0.46;

const TORSO: f32 = 0.31;
const HEAD_RADIUS: f32 = 0.105;

/// A figure's build and colours.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// In the units of [`Point`].
    pub(super) height: f32,
    width: f32,
    thickness: f32,
    arm: f32,
    clothes: Colour,
    skin: Colour,
}

/// Where the parts are that other things are fastened to.
pub(super) struct Joints {
    pub(super) head: Point,
    pub(super) head_radius: f32,
    pub(super) hands: [Point; 2],
}

const SKINS: [Colour; 4] =
    [[236.0, 188.0, 150.0], [205.0, 150.0, 110.0], [150.0, 100.0, 70.0], [100.0, 65.0, 45.0]];

impl Figure {
    /// A random build of this height.
    pub(super) fn random(height: f32, clothes: Colour, stream: &mut Stream) -> Self {
        Self {
            height,
            width: stream.range(0.085, 0.12) as f32,
            thickness: stream.range(0.042, 0.056) as f32,
            arm: stream.range(0.165, 0.19) as f32,
            clothes,
            skin: *stream.pick(&SKINS),
        }
    }

    /// Paints the figure whose feet, when it stands straight, are at `ground`.
    pub(super) fn paint(&self, canvas: &mut Canvas, ground: Point, pose: &Pose) -> Joints {
        let scaled = |p: Point| p.map(|v| v * self.height);
        let radius = self.thickness * self.height;
        let trousers = self.clothes.map(|v| v * 0.6);
        let hip = add(ground, scaled([pose.hip[0], pose.hip[1] - LEG]));
        let up = std::f32::consts::PI - pose.lean;
        let neck = add(hip, scaled(polar(up, TORSO)));
        let head = add(neck, scaled(polar(up, HEAD_RADIUS + 0.03)));

        for (side, angles) in [-0.5, 0.5].into_iter().zip(pose.legs) {
            let from = add(hip, scaled([side * self.width, 0.0]));
            let knee = add(from, scaled(polar(angles[0], LEG / 2.0)));
            let foot = add(knee, scaled(polar(angles[0] + angles[1], LEG / 2.0)));
            canvas.capsule(from, knee, radius * 1.1, trousers);
            canvas.capsule(knee, foot, radius, trousers);
        }
        canvas.capsule(hip, neck, self.width * self.height, self.clothes);
        canvas.disc(head, HEAD_RADIUS * self.height, self.skin);

        let shoulder = add(hip, scaled(polar(up, TORSO * 0.95)));
        let mut hands = [head; 2];
        for ((side, angles), hand) in [-1.0, 1.0].into_iter().zip(pose.arms).zip(&mut hands) {
            let from = add(shoulder, scaled([side * self.width * pose.lean.cos(), 0.0]));
            let elbow = add(from, scaled(polar(angles[0], self.arm)));
            *hand = add(elbow, scaled(polar(angles[0] + angles[1], self.arm)));
            canvas.capsule(from, elbow, radius, self.clothes.map(|v| v * 0.85));
            canvas.capsule(elbow, *hand, radius * 0.9, self.skin);
        }
        Joints { head, head_radius: HEAD_RADIUS * self.height, hands }
    }
}

#[cfg(test)]
mod tests {
    use dml_rand::Purpose;

    use super::*;

    #[test]
    fn mirroring_twice_changes_nothing_and_a_symmetric_pose_is_its_mirror_image() {
        let pose = Pose { lean: 0.3, arms: [[0.1, 0.2], [1.0, 2.0]], hip: [0.1, 0.2], ..Pose::standing() };
        assert_ne!(pose.mirrored(), pose);
        assert_eq!(pose.mirrored().mirrored(), pose);
        assert_eq!(Pose::standing().mirrored().arms, Pose::standing().arms);
    }

    #[test]
    fn the_figure_is_as_high_as_it_says_and_lifts_its_arms() {
        let figure = Figure::random(20.0, [255.0; 3], &mut Stream::new(0, Purpose::Test, 0, 0));
        let mut canvas = Canvas::new(64, [0.0; 2]);
        let ground = [16.0, 28.0];
        let joints = figure.paint(&mut canvas, ground, &Pose::standing());
        let top = joints.head[1] - joints.head_radius;
        assert!((ground[1] - top - 20.0).abs() < 0.5, "{top}");
        let painted = |row: usize| canvas.pixels[row * 64 * 3..(row + 1) * 64 * 3].iter().any(|&v| v > 0.0);
        assert!(painted(2 * 9) && painted(2 * 27) && !painted(2 * 6));

        let raised = Pose { arms: outward(3.0, 0.0), ..Pose::standing() };
        let joints = figure.paint(&mut canvas, ground, &raised);
        assert!(joints.hands.iter().all(|hand| hand[1] < joints.head[1]));
        assert!(joints.hands[0][0] < joints.hands[1][0]);
    }
}
