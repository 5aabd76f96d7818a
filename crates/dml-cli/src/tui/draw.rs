use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LegendPosition, LineGauge, Paragraph};

use super::story::Story;

const COLOURS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue, Color::Red];

/// A score's name, and its values by epochs.
type Curve<'a> = (&'a str, &'a [(f64, f64)]);

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame, story: &Story) {
    let rows = [Constraint::Length(3), Constraint::Min(8), Constraint::Length(9), Constraint::Length(1)];
    let [head, curves, log, foot] = Layout::vertical(rows).areas(frame.area());
    draw_head(frame, head, story);
    draw_curves(frame, curves, story);
    draw_log(frame, log, story);
    let foot_text = match story.stopping {
        true => "stopping after this step, then saving",
        false => "q stops the run and saves it",
    };
    frame.render_widget(Line::from(foot_text).dim(), foot);
}

fn draw_head(frame: &mut Frame, area: Rect, story: &Story) {
    let [title, terms, bar] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let left = story.left().map(clock).unwrap_or_else(|| "–".into());
    let text = format!("{}   {}   {:.0} samples/s   {left} left", story.title, story.place, story.rate());
    frame.render_widget(Line::from(text).bold(), title);
    let values: Vec<String> = story.terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    frame.render_widget(Line::from(values.join("   ")), terms);
    let ratio = if story.steps == 0 { 0.0 } else { story.done as f64 / story.steps as f64 };
    let gauge = LineGauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(format!("{}/{} steps", story.done, story.steps))
        .filled_style(Style::new().fg(Color::Cyan));
    frame.render_widget(gauge, bar);
}

/// A chart for each task, side by side.
fn draw_curves(frame: &mut Frame, area: Rect, story: &Story) {
    let mut tasks: BTreeMap<&str, Vec<Curve>> = BTreeMap::new();
    for (name, (task, points)) in &story.curves {
        tasks.entry(task).or_default().push((name, points));
    }
    if tasks.is_empty() {
        let text = Paragraph::new("curves appear with the first evaluation").dim();
        return frame.render_widget(text.block(Block::bordered()), area);
    }
    let columns = vec![Constraint::Ratio(1, tasks.len() as u32); tasks.len()];
    for ((task, curves), area) in tasks.into_iter().zip(Layout::horizontal(columns).split(area).iter()) {
        draw_chart(frame, *area, task, &curves);
    }
}

fn draw_chart(frame: &mut Frame, area: Rect, task: &str, curves: &[Curve]) {
    let points = || curves.iter().flat_map(|(_, points)| points.iter());
    let end = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(10.0, f64::max);
    let top = (top / 10.0).ceil() * 10.0;
    let datasets = curves.iter().zip(COLOURS.iter().cycle()).map(|((name, points), &colour)| {
        let last = points.last().map_or(0.0, |point| point.1);
        Dataset::default()
            .name(format!("{name} {last:.1}"))
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(points)
    });
    let x = Axis::default().title("epochs").bounds([0.0, end]).labels(["0".to_string(), format!("{end:.0}")]);
    let y = Axis::default().bounds([0.0, top]).labels(["0".to_string(), format!("{top:.0}")]);
    let chart = Chart::new(datasets.collect())
        .block(Block::bordered().title(format!(" {task} ")))
        .legend_position(Some(LegendPosition::BottomRight))
        .hidden_legend_constraints((Constraint::Ratio(1, 1), Constraint::Ratio(1, 2)))
        .x_axis(x)
        .y_axis(y);
    frame.render_widget(chart, area);
}

fn draw_log(frame: &mut Frame, area: Rect, story: &Story) {
    let room = area.height.saturating_sub(2) as usize;
    let skip = story.lines.len().saturating_sub(room);
    let lines: Vec<Line> = story.lines.iter().skip(skip).map(|line| Line::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" phases ")), area);
}

/// Seconds as `1:02:03` or `2:03`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use dml_train::{Event, Score};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(story: &Story, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, story)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_where_the_run_is() {
        let mut story = Story::new("runs/one");
        assert!(screen(&story, 100, 30).contains("curves appear"));
        story.add(&Event::Started { phases: 4, steps: 8, done: 0, parameters: 1 });
        let weights = Default::default();
        story.add(&Event::PhaseStarted {
            phase: 2,
            name: "class".into(),
            round: 1,
            steps: 4,
            samples: 16,
            weights,
        });
        let terms = [("class loss".to_string(), 0.25)].into();
        story.add(&Event::Step { phase: 2, step: 1, samples: 4, terms, weights: Default::default() });
        for (epochs, value) in [(0.0, 10.0), (1.0, 62.5)] {
            let score = Score {
                eval: "class".into(),
                task: "class".into(),
                measure: "hit@1".into(),
                protocol: "clip".into(),
                value,
                higher_is_better: true,
                n: 8,
            };
            story.add(&Event::Evaluated { phase: 2, name: "class".into(), epochs, scores: vec![score] });
        }
        let shown = screen(&story, 100, 30);
        for part in
            ["runs/one", "phase 2/4 class", "class loss 0.2500", "1/8 steps", "class hit@1 62.5", "q stops"]
        {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        // Terminals can be of any size.
        for (width, height) in [(1, 1), (20, 5), (300, 90)] {
            screen(&story, width, height);
        }
    }

    #[test]
    fn times_read_as_clocks() {
        assert_eq!([clock(5), clock(65), clock(3723)], ["0:05", "1:05", "1:02:03"]);
    }
}
