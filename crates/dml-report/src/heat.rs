use maud::{Markup, html};

use crate::axis::{at, text_width};
use crate::colour::{cell, cell_style};
use crate::curves::WIDTH;
use crate::sweep::Heat;

const TOP: f64 = 64.0;

impl Heat {
    /// The best cell: row and column.
    pub(crate) fn best(&self) -> Option<(usize, usize)> {
        let known = self.cells.iter().enumerate().flat_map(|(row, cells)| {
            cells.iter().enumerate().filter_map(move |(column, cell)| Some((row, column, (*cell)?.0)))
        });
        let sign = if self.score.higher_is_better { 1.0 } else { -1.0 };
        known.max_by(|a, b| (sign * a.2).total_cmp(&(sign * b.2))).map(|(row, column, _)| (row, column))
    }

    /// How good a value is among the cells: 0 is the worst, 1 the best.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let values = || self.cells.iter().flatten().flatten().map(|(value, _)| *value);
        let (low, high) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        if self.score.higher_is_better { share } else { 1.0 - share }
    }

    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.score.eval, self.score.measure)
    }

    fn unit(&self) -> String {
        let seeds = self.cells.iter().flatten().flatten().map(|(_, n)| *n).max().unwrap_or(0);
        let mean = if seeds > 1 { format!("; mean of up to {seeds} seeds") } else { String::new() };
        format!("n = {}; {}{mean}", self.score.n, self.common)
    }

    /// What is measured and how, in a line.
    pub(crate) fn name(&self) -> String {
        format!("{}, {}, {}", self.title(), self.score.protocol, self.unit())
    }

    /// The heat map. `id` is unique in its document.
    pub(crate) fn svg(&self, id: &str) -> Markup {
        let (columns, rows) = (self.x.1.len().max(1), self.y.1.len().max(1));
        let widest = self.y.1.iter().map(|label| text_width(label, 12.0)).fold(0.0, f64::max);
        let left = 26.0 + widest + 8.0;
        let width = (WIDTH - left) / columns as f64;
        let height = width.clamp(30.0, 46.0);
        let bottom = TOP + height * rows as f64;
        let best = self.best();
        html! {
            svg.chart xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (at(bottom + 46.0)) } role="img"
                aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (self.name()) }
                desc id={ (id) "-desc" } { (self.description()) }
                text.title x="0" y="18" { (self.title()) }
                text.muted x="0" y="36" { (self.score.protocol) }
                text.muted x="0" y="52" { (self.unit()) }
                @for (row, cells) in self.cells.iter().enumerate() {
                    @let y = TOP + row as f64 * height;
                    text.muted x=(at(left - 8.0)) y=(at(y + height / 2.0 + 4.0)) text-anchor="end" { (self.y.1[row]) }
                    @for (column, value) in cells.iter().enumerate() {
                        @let x = left + column as f64 * width;
                        @match value {
                            Some((value, _)) => {
                                @let share = self.share(*value);
                                @let [(light, on_light), _] = cell(share);
                                g style=(cell_style(share)) {
                                    rect.cell fill=(light) x=(at(x + 1.0)) y=(at(y + 1.0)) width=(at(width - 2.0))
                                        height=(at(height - 2.0)) rx="3" {}
                                    text.value x=(at(x + width / 2.0)) y=(at(y + height / 2.0 + 4.5)) fill=(on_light)
                                        text-anchor="middle" { (format!("{value:.1}")) }
                                }
                            }
                            None => rect.absent x=(at(x + 1.5)) y=(at(y + 1.5)) width=(at(width - 3.0))
                                height=(at(height - 3.0)) rx="3" {}
                        }
                    }
                }
                @if let Some((row, column)) = best {
                    rect.best x=(at(left + column as f64 * width)) y=(at(TOP + row as f64 * height)) width=(at(width))
                        height=(at(height)) rx="4" {}
                }
                @for (column, label) in self.x.1.iter().enumerate() {
                    text.muted x=(at(left + (column as f64 + 0.5) * width)) y=(at(bottom + 17.0)) text-anchor="middle" {
                        (label)
                    }
                }
                text.muted x=(at((left + WIDTH) / 2.0)) y=(at(bottom + 37.0)) text-anchor="middle" { (axis_name(&self.x.0)) }
                @let middle = at((TOP + bottom) / 2.0);
                text.muted x="12" y=(middle) text-anchor="middle" transform={ "rotate(-90 12 " (middle) ")" } {
                    (axis_name(&self.y.0))
                }
            }
        }
    }

    fn description(&self) -> String {
        let best = self.best().and_then(|(row, column)| {
            let (value, _) = self.cells[row][column]?;
            let (x, y) = (&self.x.1[column], &self.y.1[row]);
            let names = (axis_name(&self.x.0), axis_name(&self.y.0));
            Some(format!(" The best is {value:.1} at {} {x}, {} {y}.", names.0, names.1))
        });
        let (x, y) = (axis_name(&self.x.0), axis_name(&self.y.0));
        format!("Heat map of {x} by {y}.{} The table below it has all values.", best.unwrap_or_default())
    }
}

/// The paper's name of a setting where it has one.
pub(crate) fn axis_name(key: &str) -> String {
    match key {
        "training.lambda_class" => "λ_C (lambda_class)".into(),
        "training.lambda_caption" => "λ_S (lambda_caption)".into(),
        _ => key.trim_start_matches("training.").into(),
    }
}
