//! Anti-aliased shapes on a small canvas, painted back to front.

/// A place or a direction: x to the right, y down, in units of 1/32 of the picture's side.
pub(super) type Point = [f32; 2];

/// Red, green and blue from 0 to 255.
pub(super) type Colour = [f32; 3];

/// Side of the picture in the units of [`Point`].
pub(super) const SIDE: f32 = 32.0;

pub(super) fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

/// The direction of an angle, of this length: 0 points down, a quarter turn to the right.
pub(super) fn polar(angle: f32, length: f32) -> Point {
    [length * angle.sin(), length * angle.cos()]
}

/// A square picture.
pub(super) struct Canvas {
    size: usize,
    /// (size, size, 3), row-major, from 0 to 255.
    pub(super) pixels: Vec<f32>,
    /// What is added to every place: the camera's movement.
    pub(super) shift: Point,
}

impl Canvas {
    pub(super) fn new(size: usize, shift: Point) -> Self {
        Self { size, pixels: vec![0.0; size * size * 3], shift }
    }

    /// Paints everything: the colour goes from `from` to `to` along the direction, through the picture's centre.
    pub(super) fn gradient(&mut self, from: Colour, to: Colour, angle: f32) {
        let scale = self.size as f32 / SIDE;
        let direction = polar(angle, 1.0 / SIDE);
        for (i, pixel) in self.pixels.chunks_exact_mut(3).enumerate() {
            let x = ((i % self.size) as f32 + 0.5) / scale - self.shift[0] - SIDE / 2.0;
            let y = ((i / self.size) as f32 + 0.5) / scale - self.shift[1] - SIDE / 2.0;
            let part = (0.5 + x * direction[0] + y * direction[1]).clamp(0.0, 1.0);
            for ((value, a), b) in pixel.iter_mut().zip(from).zip(to) {
                *value = a + part * (b - a);
            }
        }
    }

    /// A thick line with round ends.
    pub(super) fn capsule(&mut self, from: Point, to: Point, radius: f32, colour: Colour) {
        let along = [to[0] - from[0], to[1] - from[1]];
        let square = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
        let centre = [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
        let reach = [along[0].abs() / 2.0 + radius, along[1].abs() / 2.0 + radius];
        self.fill(centre, reach, colour, |x, y| {
            let p = [x - from[0], y - from[1]];
            let t = ((p[0] * along[0] + p[1] * along[1]) / square).clamp(0.0, 1.0);
            (p[0] - t * along[0]).hypot(p[1] - t * along[1]) - radius
        });
    }

    pub(super) fn disc(&mut self, centre: Point, radius: f32, colour: Colour) {
        self.fill(centre, [radius; 2], colour, |x, y| (x - centre[0]).hypot(y - centre[1]) - radius);
    }

    /// The upper half of a disc.
    pub(super) fn dome(&mut self, centre: Point, radius: f32, colour: Colour) {
        self.fill(centre, [radius; 2], colour, |x, y| {
            ((x - centre[0]).hypot(y - centre[1]) - radius).max(y - centre[1])
        });
    }

    /// An upright rectangle, given by half its width and height.
    pub(super) fn rectangle(&mut self, centre: Point, half: Point, colour: Colour) {
        self.fill(centre, half, colour, |x, y| {
            ((x - centre[0]).abs() - half[0]).max((y - centre[1]).abs() - half[1])
        });
    }

    /// Paints where the signed distance to the shape's edge is negative; a pixel that the edge crosses in part.
    fn fill(&mut self, centre: Point, reach: Point, colour: Colour, distance: impl Fn(f32, f32) -> f32) {
        let scale = self.size as f32 / SIDE;
        let range = |axis: usize| {
            let middle = centre[axis] + self.shift[axis];
            let first = ((middle - reach[axis]) * scale - 1.0).floor().max(0.0) as usize;
            let end = ((middle + reach[axis]) * scale + 2.0).max(0.0) as usize;
            first..end.min(self.size)
        };
        let (columns, rows) = (range(0), range(1));
        for row in rows {
            for column in columns.clone() {
                let x = (column as f32 + 0.5) / scale - self.shift[0];
                let y = (row as f32 + 0.5) / scale - self.shift[1];
                let cover = (0.5 - distance(x, y) * scale).clamp(0.0, 1.0);
                let start = (row * self.size + column) * 3;
                for (value, target) in self.pixels[start..start + 3].iter_mut().zip(colour) {
                    *value += cover * (target - *value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Colour = [255.0; 3];

    /// The painted area in pixels.
    fn area(canvas: &Canvas) -> f32 {
        canvas.pixels.iter().step_by(3).sum::<f32>() / 255.0
    }

    #[test]
    fn shapes_have_their_areas() {
        let painted = |paint: &dyn Fn(&mut Canvas)| {
            let mut canvas = Canvas::new(64, [0.3, -0.2]);
            paint(&mut canvas);
            area(&canvas) / 4.0
        };
        let pi = std::f32::consts::PI;
        let centre = [15.2, 16.7];
        for (found, wanted) in [
            (painted(&|c| c.disc(centre, 4.0, WHITE)), 16.0 * pi),
            (painted(&|c| c.dome(centre, 4.0, WHITE)), 8.0 * pi),
            (painted(&|c| c.rectangle(centre, [5.0, 2.0], WHITE)), 40.0),
            (painted(&|c| c.capsule([10.0, 10.0], [16.0, 18.0], 2.0, WHITE)), 40.0 + 4.0 * pi),
        ] {
            assert!((found / wanted - 1.0).abs() < 0.02, "{found} where {wanted} is right");
        }
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let mut canvas = Canvas::new(16, [0.0; 2]);
        canvas.disc([-20.0, 50.0], 3.0, WHITE);
        assert_eq!(area(&canvas), 0.0);
        canvas.disc([0.0, 0.0], 8.0, WHITE);
        let quarter = std::f32::consts::PI * 4.0;
        assert!((area(&canvas) / quarter - 1.0).abs() < 0.03);
    }

    #[test]
    fn a_gradient_goes_from_one_colour_to_the_other() {
        let mut canvas = Canvas::new(32, [0.0; 2]);
        canvas.gradient([0.0; 3], WHITE, std::f32::consts::FRAC_PI_2);
        assert!(canvas.pixels[0] < 8.0 && canvas.pixels[31 * 3] > 247.0);
        assert!((canvas.pixels[0] - canvas.pixels[31 * 32 * 3]).abs() < 1e-2);
    }
}
