//! What the page says, and what it must not.
#![allow(clippy::unwrap_used)]

mod common;

use common::{HOSTILE, detail, report, scores, write_run, write_sweep};
use dml_report::Report;

/// The cells of a table's body, row by row, as text without tags; and their `data-value`s.
fn cells(html: &str, label: &str) -> Vec<Vec<(String, Option<String>)>> {
    let table = html.split(&format!("<caption class=\"hidden\">{label}</caption>")).nth(1).expect(label);
    let body = table.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
    let cell = |cell: &str| {
        let (tag, rest) = cell.split_once('>').unwrap();
        let value = tag.split("data-value=\"").nth(1).map(|v| v.split('"').next().unwrap().to_string());
        let mut text = String::new();
        let mut inside = false;
        for c in rest.split("</td>").next().unwrap().split("</th>").next().unwrap().chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        (text, value)
    };
    let row = |row: &str| {
        let row = row.replace("<th", "<td");
        row.split("<td").skip(1).map(cell).collect()
    };
    body.split("<tr").skip(1).map(row).collect()
}

#[test]
fn every_number_of_the_table_is_a_score_with_its_protocol_and_n() {
    let place = tempfile::tempdir().unwrap();
    let (_, report) = report(place.path());
    let rows = cells(&report.html(), "Scores at the end");
    let expected = scores(10.0);
    assert_eq!(rows.len(), expected.len());
    for (row, score) in rows.iter().zip(&expected) {
        let texts: Vec<&str> = row.iter().map(|(text, _)| text.as_str()).collect();
        let (value, n) = (format!("{:.2}", score.value), score.n.to_string());
        assert_eq!(texts, [&score.eval, &score.measure, &value, &n, &score.protocol]);
        assert_eq!(row[3].1.as_ref(), Some(&n));
        assert_eq!(row[2].1.as_ref().unwrap().parse::<f64>().unwrap(), score.value);
    }
}

#[test]
fn the_checkpoints_scores_go_before_the_saved_ones() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    write_run(&run, 0.0);
    let mut report = Report::read(&[&run]).unwrap();
    assert_eq!(report.runs[0].final_scores(), scores(10.0));
    report.runs[0].detail = Some(Ok(detail(3.0)));
    assert_eq!(report.runs[0].final_scores(), scores(3.0));
    report.runs[0].detail = Some(Err("no checkpoint in it".into()));
    let html = report.html();
    assert!(
        html.contains("no checkpoint in it") && !html.contains("data-gallery=\""),
        "the reason is not told"
    );
    assert_eq!(report.runs[0].final_scores(), scores(10.0));
}

#[test]
fn several_runs_are_compared() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["a/run", "b/run"].map(|name| place.path().join(name));
    write_run(&folders[0], 0.0);
    write_run(&folders[1], 2.0);
    let report = Report::read(&folders).unwrap();
    let html = report.html();
    let rows = cells(&html, "Scores at the end");
    // R@1 falls with the level and the mean rank too, which is better.
    let best: Vec<usize> =
        rows.iter().map(|row| (2..4).find(|&i| row[i].0.ends_with("(best)")).unwrap()).collect();
    assert_eq!(best, [3, 3, 2, 3, 3]);
    let differing = cells(&html, "Settings that differ");
    assert_eq!(differing.len(), 1);
    let texts: Vec<&str> = differing[0].iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["training.lambda_class", "0.9", "0.92"]);
    assert!(report.runs[0].name != report.runs[1].name, "runs of one name cannot be told apart");
    // One line for each run and evaluation.
    let values = cells(&html, "hit@1, clip, n = 200; %, higher is better");
    assert_eq!(values.len(), 2 * 2 * 7);
}

#[test]
fn the_heat_maps_table_has_the_sweeps_values() {
    let place = tempfile::tempdir().unwrap();
    write_sweep(place.path());
    let html = Report::read(&[place.path()]).unwrap().html();
    let label = "class hit@1, ";
    let start = html.find(&format!("<caption class=\"hidden\">{label}")).unwrap();
    let caption = html[start..].split("</caption>").next().unwrap().replace("<caption class=\"hidden\">", "");
    let rows = cells(&html, &caption);
    let texts: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|(text, _)| text.as_str()).collect()).collect();
    // The y axis grows upwards.
    let expected = [
        ["0.9", "42.12", "45.12", "48.12 (best)"],
        ["0.5", "41.12", "44.12", "47.12"],
        ["0.1", "40.12", "43.12", "46.12"],
    ];
    assert_eq!(texts, expected);
}

#[test]
fn nothing_from_outside_becomes_markup_and_nothing_is_loaded() {
    let place = tempfile::tempdir().unwrap();
    let (_, report) = report(place.path());
    let files = report.svgs();
    // Four measures through the switches, five scores over the grid.
    assert_eq!(files.len(), 4 + 5);
    let check = |name: &str, text: &str| {
        for part in ["<img src=x", "<b>bold", "</style></script>", "onerror=\""] {
            assert!(!text.contains(part), "{name} has {part} unescaped");
        }
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for part in ["http:", "https:", "src=\"/", "@import", "url(", "//cdn"] {
            assert!(!text.contains(part), "{name} has {part}");
        }
    };
    let html = report.html();
    assert!(html.contains("&lt;b&gt;bold"), "the hostile name is not there at all");
    assert!(html.contains("default-src 'none'"));
    check("the page", &html);
    for (name, svg) in &files {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{name}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
        check(name, svg);
    }
    assert!(files.iter().any(|(_, svg)| svg.contains(
        &HOSTILE.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    )));
}

#[test]
fn folders_that_are_none_are_named() {
    let place = tempfile::tempdir().unwrap();
    let error = Report::read(&[place.path()]).unwrap_err().to_string();
    assert!(error.contains("config.toml") && error.contains(&place.path().display().to_string()), "{error}");
    std::fs::write(place.path().join("sweep.json"), "{").unwrap();
    assert!(Report::read(&[place.path()]).unwrap_err().to_string().contains("sweep.json"));
}

#[test]
fn a_run_that_left_little_still_gets_its_page() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("config.toml"), "seed = 3\n").unwrap();
    let html = Report::read(&[place.path()]).unwrap().html();
    assert!(html.contains("No score was saved") && html.contains("nothing to draw"));
}
