//! The page in a real browser: loading, keyboard, themes, a phone's width, accessibility. Where there is no Chromium the
//! tests say so on one line and return; `DML_AXE` names an `axe.min.js` for the accessibility rules of axe-core.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Chromium, spoken to in the DevTools protocol through two pipes.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Option<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let named =
            |name: &str| std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file());
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
        let program =
            std::env::var_os("DML_CHROMIUM").map(PathBuf::from).or_else(|| names.into_iter().find_map(named));
        let Some(program) = program else {
            eprintln!("left out: no Chromium in PATH, nor in DML_CHROMIUM");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads from descriptor 3 and writes to 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, to, from, session: None, last: 0, events: vec![], _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().into());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.to, "{message}\0").unwrap();
        self.to.flush().unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == json!(self.last) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "Chromium has ended");
        serde_json::from_slice(&message).unwrap()
    }

    fn open(&mut self, page: &Path) {
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// The value of an expression, awaited where it is a promise.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => (32, " "),
        };
        let down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text});
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
        );
    }

    /// Presses Tab until the focus is on an element that matches.
    fn tab_to(&mut self, selector: &str) {
        for _ in 0..200 {
            self.press("Tab");
            if self.eval(&format!("document.activeElement.matches({})", json!(selector))) == json!(true) {
                let outline = self.eval("getComputedStyle(document.activeElement).outlineStyle");
                assert_eq!(outline, "solid", "the focus on {selector} cannot be seen");
                return;
            }
        }
        panic!("{selector} cannot be reached with Tab");
    }

    fn width(&mut self, width: u32, height: u32, mobile: bool) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    fn theme(&mut self, theme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let place = tempfile::tempdir().unwrap();
    let (page, _) = common::report(place.path());
    let Some(mut browser) = Browser::start() else { return };
    let child = browser.child.id();
    // A browser that hangs fails the test instead of holding it up.
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(100));
        let _ = Command::new("kill").arg(child.to_string()).status();
    });
    browser.width(1280, 900, false);
    browser.open(&page);

    sorts_by_keyboard(&mut browser);
    galleries_by_keyboard(&mut browser);
    themes(&mut browser);
    fits_a_phone(&mut browser);
    accessible(&mut browser);

    // After everything above: nothing was asked for beside the page itself, and nothing went wrong.
    for event in &browser.events {
        let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                assert!(url.starts_with("file://") || url.starts_with("data:"), "{url}")
            }
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" => panic!("{event}"),
            _ => {}
        }
    }
    let requests = browser.events.iter().filter(|event| {
        event["params"]["request"]["url"].as_str().is_some_and(|url| url.starts_with("file://"))
    });
    assert_eq!(requests.count(), 1, "only the page itself is read");
}

fn sorts_by_keyboard(browser: &mut Browser) {
    let values =
        "[...document.querySelector('#scores tbody').rows].map(row => Number(row.cells[2].dataset.value))";
    let sort = "document.activeElement.closest('th').getAttribute('aria-sort')";
    browser.tab_to("#scores th:nth-child(3) button");
    for (key, expected) in [("Enter", "descending"), (" ", "ascending")] {
        browser.press(key);
        assert_eq!(browser.eval(sort), expected);
        let found: Vec<f64> = serde_json::from_value(browser.eval(values)).unwrap();
        let mut sorted = found.clone();
        sorted.sort_by(f64::total_cmp);
        if expected == "descending" {
            sorted.reverse();
        }
        assert_eq!(found, sorted, "{expected}");
    }
}

fn galleries_by_keyboard(browser: &mut Browser) {
    let shown =
        "[...document.querySelectorAll('.gallery')[0].children].map(card => Number(card.dataset.KEY))";
    for key in ["confidence", "disagreement"] {
        browser.tab_to(&format!("[data-key={key}]"));
        browser.press(" ");
        assert_eq!(browser.eval("document.activeElement.getAttribute('aria-pressed')"), "true");
        let found: Vec<f64> = serde_json::from_value(browser.eval(&shown.replace("KEY", key))).unwrap();
        assert!(found.len() == 20 && found.is_sorted_by(|a, b| a >= b), "{key}: {found:?}");
    }
    browser.press("Enter");
    let found: Vec<f64> =
        serde_json::from_value(browser.eval(&shown.replace("KEY", "disagreement"))).unwrap();
    assert!(found.is_sorted(), "a second press does not turn the order around: {found:?}");
    let visible =
        "[...document.querySelectorAll('.gallery')[0].children].filter(card => card.offsetParent).length";
    assert_eq!(browser.eval(visible), 12);
    browser.tab_to(".more");
    browser.press("Enter");
    assert_eq!(browser.eval(visible), 20);
}

fn themes(browser: &mut Browser) {
    let colours =
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].join()";
    browser.theme("light");
    let light = browser.eval(colours);
    browser.theme("dark");
    let dark = browser.eval(colours);
    assert_ne!(light, dark, "the system's theme changes nothing");
    // As the system, light, dark, and around.
    for expected in [&light, &dark, &dark] {
        browser.eval("document.getElementById('theme').click()");
        assert_eq!(browser.eval(colours), *expected);
    }
}

fn fits_a_phone(browser: &mut Browser) {
    let too_wide = "(() => {
        const room = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= room) return [];
        return [...document.querySelectorAll('body *')]
            .filter(e => e.getBoundingClientRect().right > room && !e.closest('.scroll, nav, svg'))
            .map(e => e.outerHTML.slice(0, 80));
    })()";
    let open = "document.querySelectorAll('details').forEach(details => details.open = OPEN)";
    for width in [390, 320, 768, 1280] {
        browser.width(width, 844, width < 500);
        for open_all in ["true", "false"] {
            browser.eval(&open.replace("OPEN", open_all));
            assert_eq!(browser.eval(too_wide), json!([]), "at {width} pixels, details open: {open_all}");
        }
    }
    browser.width(390, 844, true);
    let small = "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.getBoundingClientRect().height < 24)
        .map(b => b.textContent)";
    assert_eq!(browser.eval(small), json!([]), "too small to be hit with a finger");
}

fn accessible(browser: &mut Browser) {
    let Some(axe) = std::env::var_os("DML_AXE") else {
        eprintln!("left out: the rules of axe-core, as DML_AXE names no axe.min.js");
        return;
    };
    let axe = std::fs::read_to_string(axe).unwrap();
    browser.eval("document.querySelectorAll('details').forEach(details => details.open = true)");
    browser.call("Runtime.evaluate", json!({"expression": axe}));
    for width in [390, 1280] {
        browser.width(width, 844, width < 500);
        for theme in ["light", "dark"] {
            browser.theme(theme);
            let result = browser.eval(
                "axe.run().then(r => [r.passes.length, r.violations.map(v => [v.id, v.nodes.length,
                    v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary])])",
            );
            assert!(result[0].as_u64().unwrap() > 20, "few rules apply: {result}");
            assert_eq!(result[1], json!([]), "{theme} at {width}");
        }
    }
}
