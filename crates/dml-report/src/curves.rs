use maud::{Markup, html};

use crate::axis::{Ticks, at, text_width};

/// Values over epochs, one line or several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curves {
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) protocol: String,
    /// On how many, in which unit, and which way is better.
    pub(crate) unit: String,
    pub(crate) x_label: String,
    /// Phases in the background: from, to, name.
    pub(crate) bands: Vec<(f64, f64, String)>,
    pub(crate) lines: Vec<Line>,
    /// Whether small values near 0 ask for an axis from 0.
    pub(crate) from_zero: bool,
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) label: String,
    /// Number of its colour and marker.
    pub(crate) colour: usize,
    /// Number of its dashes; 0 is solid.
    pub(crate) dash: usize,
    pub(crate) points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// What it stands for, such as `after phase 3, class`.
    pub(crate) note: String,
}

/// Width of every chart in its own units: those of the screen on a phone, nearly.
pub(crate) const WIDTH: f64 = 372.0;
const LEFT: f64 = 38.0;
const RIGHT: f64 = 12.0;
const PLOT: f64 = 176.0;
const BELOW: f64 = 44.0;
const STRIP: f64 = 18.0;
const LEGEND_ROW: f64 = 19.0;
const SMALL: f64 = 12.0;
const COLOURS: usize = 8;

impl Curves {
    /// The chart. `id` is unique in its document.
    pub(crate) fn svg(&self, id: &str) -> Markup {
        let legend = self.legend();
        let rows = legend.last().map_or(0, |item| item.row + 1);
        // The phases' names stand above the plot, where no line can run through them.
        let strip = if self.bands.is_empty() || !self.all_named() { 0.0 } else { STRIP };
        let top = 70.0 + rows as f64 * LEGEND_ROW + strip;
        let height = top + PLOT + BELOW;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let range = |of: fn(&Point) -> f64| {
            let values = || points().map(of).filter(|value| value.is_finite());
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
        };
        let (low, high) = range(|point| point.y);
        let low = if self.from_zero && low >= 0.0 && low < 0.4 * high { 0.0 } else { low };
        let ticks = Ticks::new(low, high, 4, true);
        let (low, high) = (ticks.values[0], ticks.values[ticks.values.len() - 1]);
        let (mut first, mut last) = range(|point| point.x);
        for (from, to, _) in &self.bands {
            (first, last) = (first.min(*from), last.max(*to));
        }
        if last <= first {
            last = first + 1.0;
        }
        let across = Ticks::new(first, last, 6, false);
        let x = |value: f64| LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| top + (high - value) / (high - low) * PLOT;
        html! {
            svg.chart xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (at(height)) } role="img"
                aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (self.name()) }
                desc id={ (id) "-desc" } { (self.description()) }
                text.title x="0" y="18" { (self.title) }
                text.muted x="0" y="36" { (self.protocol) }
                text.muted x="0" y="52" { (self.unit) }
                (self.draw_legend(&legend))
                @for (from, to, name) in &self.bands {
                    rect class={ "band band" (self.band_number(name)) } x=(at(x(*from))) y=(at(top - strip))
                        width=(at(x(*to) - x(*from))) height=(at(PLOT + strip)) {}
                    @if strip > 0.0 {
                        text.muted.small x=(at(x((from + to) / 2.0))) y=(at(top - 5.5)) text-anchor="middle" { (name) }
                    }
                }
                @for &value in &ticks.values {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y(value))) y2=(at(y(value))) {}
                    text.muted x=(LEFT - 7.0) y=(at(y(value) + 4.0)) text-anchor="end" { (ticks.label(value)) }
                }
                @for &value in &across.values {
                    line.tick x1=(at(x(value))) x2=(at(x(value))) y1=(at(top + PLOT)) y2=(at(top + PLOT + 4.0)) {}
                    text.muted x=(at(x(value))) y=(at(top + PLOT + 18.0)) text-anchor="middle" { (across.label(value)) }
                }
                line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(top + PLOT)) y2=(at(top + PLOT)) {}
                text.muted x=(at((LEFT + WIDTH - RIGHT) / 2.0)) y=(at(top + PLOT + 36.0)) text-anchor="middle" {
                    (self.x_label)
                }
                @for line in &self.lines {
                    g class={ "c" (line.colour % COLOURS) } {
                        @let path: Vec<String> =
                            line.points.iter().map(|p| format!("{} {}", at(x(p.x)), at(y(p.y)))).collect();
                        path class={ "series dash" (line.dash % 4) } d={ "M" (path.join("L")) } {}
                        @for point in &line.points {
                            path.dot.tiny[self.crowded()] d=(marker(line.colour, x(point.x), y(point.y), if self.crowded() { 1.4 } else { 3.2 })) {
                                title { (line.label) ", " (point.note) ": " (format!("{:.2}", point.y)) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// What is measured and how, in a line.
    pub(crate) fn name(&self) -> String {
        format!("{}, {}, {}", self.title, self.protocol, self.unit)
    }

    /// Whether markers would touch.
    fn crowded(&self) -> bool {
        self.lines.iter().any(|line| line.points.len() > 40)
    }

    fn description(&self) -> String {
        let line = |line: &Line| {
            let value = |point: Option<&Point>| point.map_or("–".into(), |point| format!("{:.1}", point.y));
            let (first, last) = (value(line.points.first()), value(line.points.last()));
            format!("{}: from {first} to {last} in {} points", line.label, line.points.len())
        };
        let lines: Vec<String> = self.lines.iter().map(line).collect();
        format!("Line chart over {}. {}. The table below it has all values.", self.x_label, lines.join("; "))
    }

    /// The place of a phase's name among the names: phases of one name share a shade.
    fn band_number(&self, name: &str) -> usize {
        self.band_names().iter().position(|known| known == &name).unwrap_or(0) % 3
    }

    fn band_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (_, _, name) in &self.bands {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Whether there is room for every phase's name above its band.
    fn all_named(&self) -> bool {
        let ends = self.bands.iter().map(|(from, to, _)| (*from, *to));
        let (from, to) = ends.fold((f64::INFINITY, 0f64), |(a, b), (from, to)| (a.min(from), b.max(to)));
        let scale = (WIDTH - LEFT - RIGHT) / (to - from);
        self.bands.iter().all(|(from, to, name)| self.fits((to - from) * scale, name))
    }

    fn fits(&self, width: f64, name: &str) -> bool {
        width > text_width(name, 11.0) + 4.0
    }

    fn legend(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let phases = if self.all_named() { vec![] } else { self.band_names() };
        let labels = self.lines.iter().map(|line| line.label.clone());
        let labels = labels.chain(phases.iter().map(|name| format!("phase {name}")));
        let (mut row, mut x) = (0, 0.0);
        for (number, label) in labels.enumerate() {
            let width = 32.0 + text_width(&label, SMALL) + 12.0;
            if x > 0.0 && x + width > WIDTH {
                (row, x) = (row + 1, 0.0);
            }
            entries.push(Entry { number, row, x, label });
            x += width;
        }
        entries
    }

    fn draw_legend(&self, legend: &[Entry]) -> Markup {
        html! {
            @for Entry { number, row, x, label } in legend {
                @let y = 72.0 + *row as f64 * LEGEND_ROW;
                @if let Some(line) = self.lines.get(*number) {
                    g class={ "c" (line.colour % COLOURS) } {
                        path class={ "series dash" (line.dash % 4) } d={ "M" (at(*x)) " " (at(y)) "h24" } {}
                        path.dot d=(marker(line.colour, x + 12.0, y, 3.2)) {}
                    }
                } @else {
                    @let name = label.strip_prefix("phase ").unwrap_or(label);
                    rect class={ "band swatch band" (self.band_number(name)) } x=(at(*x)) y=(at(y - 7.0)) width="24" height="14" {}
                }
                text.legend x=(at(x + 30.0)) y=(at(y + 4.0)) { (label) }
            }
        }
    }
}

/// An entry of the legend: the number of its line, or beyond those of a phase.
struct Entry {
    number: usize,
    row: usize,
    x: f64,
    label: String,
}

/// A circle, square, diamond or triangle: lines can be told apart without colours.
fn marker(number: usize, x: f64, y: f64, r: f64) -> String {
    let p = |dx: f64, dy: f64| format!("{} {}", at(x + dx * r), at(y + dy * r));
    match number % 4 {
        0 => format!("M{}a{r} {r} 0 1 0 {} 0a{r} {r} 0 1 0 {} 0z", p(-1.0, 0.0), 2.0 * r, -2.0 * r),
        1 => format!("M{}L{}L{}L{}z", p(-0.9, -0.9), p(0.9, -0.9), p(0.9, 0.9), p(-0.9, 0.9)),
        2 => format!("M{}L{}L{}L{}z", p(0.0, -1.3), p(1.3, 0.0), p(0.0, 1.3), p(-1.3, 0.0)),
        _ => format!("M{}L{}L{}z", p(0.0, -1.3), p(1.2, 0.9), p(-1.2, 0.9)),
    }
}
