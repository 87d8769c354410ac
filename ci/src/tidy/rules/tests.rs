//! Each rule flags what it forbids, at its line, and lets its neighbours be.

use super::*;

fn source(path: &str, text: &str) -> Source {
    Source::parse(Path::new(path), text)
}

fn lines(findings: impl IntoIterator<Item = Finding>) -> Vec<usize> {
    findings.into_iter().map(|finding| finding.line()).collect()
}

#[test]
fn a_file_has_600_lines_at_most() {
    assert_eq!(file_length(&source("a/src/b.rs", &"x();\n".repeat(600))), None);
    let finding = file_length(&source("a/src/b.rs", &"x();\n".repeat(601))).unwrap();
    assert_eq!(finding.rule(), "file length");
    assert!(finding.to_string().starts_with("a/src/b.rs:601: file length: 601 lines"), "{finding}");
}

#[test]
fn lib_rs_has_120_lines_at_most() {
    assert_eq!(file_length(&source("a/src/lib.rs", &"mod x;\n".repeat(120))), None);
    assert!(file_length(&source("a/src/lib.rs", &"mod x;\n".repeat(121))).is_some());
}

#[test]
fn a_function_has_70_lines_at_most() {
    let function = |lines: usize| format!("\nfn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    assert!(function_length(&source("a.rs", &function(70))).is_empty());
    let findings = function_length(&source("a.rs", &function(71)));
    assert!(findings[0].to_string().contains("`f` has 71 lines"), "{findings:?}");
    assert_eq!(lines(findings), [2]);
}

#[test]
fn a_long_test_is_a_long_function() {
    let text = format!("#[cfg(test)]\nmod tests {{\n#[test]\nfn long() {{\n{}}}\n}}\n", "x();\n".repeat(70));
    assert_eq!(lines(function_length(&source("a.rs", &text))), [4]);
}

#[test]
fn modules_have_names_that_say_something() {
    assert_eq!(lines(module_names(&source("a/src/util.rs", ""))), [1]);
    assert_eq!(lines(module_names(&source("a/src/common/x.rs", ""))), [1]);
    assert_eq!(lines(module_names(&source("a/src/lib.rs", "mod ring;\npub(crate) mod helpers;\n"))), [2]);
    assert_eq!(lines(module_names(&source("a/src/x/mod.rs", ""))), [1]);
    assert!(module_names(&source("a/src/utility.rs", "mod commonality; // mod misc;\n")).is_empty());
}

#[test]
fn the_errno_table_names_every_variant() {
    let text = "match e {\n    Some(_) => 1,\n    (_, 2) => 2,\n    A { .. } => 3,\n    _ => 4,\n    B(_) | _ => 5,\n}\n";
    assert_eq!(lines(errno(&source("fusefront/src/errno.rs", text))), [5, 6]);
    assert!(errno(&source("fusefront/src/vfs.rs", text)).is_empty());
}

#[test]
fn an_errno_for_the_kernel_is_chosen_in_one_file() {
    let text = "use fuser::Errno;\nfn f() -> Errno {\n    Errno::ENOENT\n}\n#[cfg(test)]\nmod tests { const E: Errno = Errno::EIO; }\n";
    assert_eq!(lines(errno(&source("fusefront/src/adapter.rs", text))), [3]);
    assert!(errno(&source("fusefront/src/errno.rs", text)).is_empty());
    // Without fuser in sight it reads an errno the system gave.
    assert!(errno(&source("fusefront/src/unmount.rs", "if e == Errno::EBUSY {}\n")).is_empty());
}

#[test]
fn a_copy_is_named_or_flagged() {
    let text = "let a = b.to_vec();\nlet a = b.to_vec(); // copy: kept past the packet\n\"b.to_vec()\";\n";
    assert_eq!(lines(copies(&source("transport/src/a.rs", text))), [1]);
    assert!(copies(&source("transport/tests/it/main.rs", text)).is_empty());
    assert!(copies(&source("benches/a.rs", text)).is_empty());
}

#[test]
fn tests_have_no_clock() {
    let calls = [
        "std::thread::sleep(d);",
        "tokio::time::sleep(d).await;",
        "sleep_until(t).await;",
        "Instant::now();",
        "SystemTime::now();",
    ];
    for call in calls {
        assert_eq!(lines(clocks_in_tests(&source("a/tests/it/main.rs", call))), [1], "{call}");
        assert!(clocks_in_tests(&source("a/src/x.rs", call)).is_empty(), "{call} outside a test");
        let excused = format!("{call} // clock: the test is of the deadline itself");
        assert!(clocks_in_tests(&source("a/tests/it/main.rs", &excused)).is_empty(), "{excused}");
    }
    for own in ["clock.sleep(d);", "fn sleep(d: Duration) {}", "asleep(d);", "sleepy.now();"] {
        assert!(clocks_in_tests(&source("a/tests/it/main.rs", own)).is_empty(), "{own}");
    }
}

#[test]
fn reminders_name_their_issue() {
    let text = "// TODO later\n// TODO(#12) later\n/* FIXME */\nlet todo = \"TODO\"; // XXXX\n";
    assert_eq!(lines(marks(&source("a.rs", text))), [1, 3]);
    assert_eq!(lines(marks_in_text(Path::new("a.sh"), "mktemp XXXXXX\n# XXX\n")), [2]);
}
