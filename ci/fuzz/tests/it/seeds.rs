//! The seeds: valid inputs that the fuzzer starts from, written by `WORMHOLE_SEEDS=write cargo test -p wormhole-fuzz seeds`.

use std::{fs, path::Path};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

/// A file of the corpus: its target, its name, its bytes.
type Seed = (&'static str, String, Vec<u8>);

/// The frozen messages of the protocol, by name.
fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../transport/wire/tests/golden");
    let mut golden = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let hex: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
        golden.push((name, HEXLOWER.decode(hex.as_bytes()).unwrap()));
    }
    golden
}

fn after(first: &[u8], rest: &[u8]) -> Vec<u8> {
    [first, rest].concat()
}

fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, bytes) in golden() {
        if let Some(kind) = name.strip_prefix("request_") {
            seeds.push(("wire_call", kind.to_owned(), after(&[0], &bytes)));
        } else if let Some(kind) = name.strip_prefix("reply_") {
            seeds.push(("wire_reply", kind.to_owned(), after(&[0], &bytes)));
        } else if let Some(kind) = name.strip_prefix("push_") {
            seeds.push(("wire_push", kind.to_owned(), after(&[0], &bytes)));
        } else if name == "ticket" {
            let contents = BASE64URL_NOPAD.decode(&bytes["wh1_".len()..]).unwrap();
            let payload = &contents[..contents.len() - 4];
            seeds.push(("ticket", "text".to_owned(), after(&[0], &bytes)));
            seeds.push(("ticket", "contents".to_owned(), after(&[1], payload)));
            // Behind the key and the secret; the addresses follow.
            seeds.push(("claims", "claims".to_owned(), payload[64..].to_owned()));
        }
    }
    seeds.push(("wire_push", "several".to_owned(), several(&seeds)));
    seeds.push(("wire_call", "dribble".to_owned(), dribble(&seeds)));
    seeds.push(("ticket", "newer".to_owned(), after(&[0], b"wh2_abcd")));
    seeds.push(("ticket", "id".to_owned(), after(&[0], b"0123456789ABCDEF")));
    seeds.push(("path", "join".to_owned(), after(b"\x05clip1", b"shots/010/plates")));
    seeds.push(("path", "dots".to_owned(), after(b"\x02..", b"a/../b")));
    seeds.push(("path", "root".to_owned(), after(b"\x01x", b"")));
    seeds.extend(readahead());
    seeds.extend(control());
    seeds.extend(admission());
    seeds.extend(answers());
    seeds.extend(session());
    seeds
}

/// Every push, one after the other, in pieces.
fn several(seeds: &[Seed]) -> Vec<u8> {
    let pushes = seeds.iter().filter(|(target, ..)| *target == "wire_push");
    let mut pushes: Vec<&Seed> = pushes.collect();
    pushes.sort();
    after(&[7], &pushes.into_iter().flat_map(|(.., bytes)| bytes[1..].to_owned()).collect::<Vec<u8>>())
}

/// A request a byte at a time.
fn dribble(seeds: &[Seed]) -> Vec<u8> {
    let (_, _, stat) =
        seeds.iter().find(|(target, name, _)| (*target, name.as_str()) == ("wire_call", "stat")).unwrap();
    after(&[1], &stat[1..])
}

fn readahead() -> [Seed; 3] {
    // A number of four bytes, after the byte that says so.
    let wide = |value: u32| after(&[2], &value.to_le_bytes());
    let (memory, size, read) = (wide(128 << 20), wide(64 << 20), wide(128 << 10));
    let head = after(&memory, &size);
    // A read that follows the last one, or comes before it, or a stride after it; then all that is advised is fetched.
    let step = |way: u8, number: &[u8]| [&[way], number, &read[..], &[1, 255]].concat();
    let onward = step(5, &[0, 0]).repeat(8);
    let back = [step(4, &wide(40 << 20)), step(6, &[0, 0]).repeat(8)].concat();
    let strides = step(7, &wide(2 << 20)).repeat(8);
    let (missed, cut) = (after(&[2], &wide(3 << 20)), after(&[0], &wide(1 << 20)));
    [
        ("readahead", "onward".to_owned(), [&head[..], &onward].concat()),
        ("readahead", "back_and_cut".to_owned(), [&head[..], &back, &cut, &onward].concat()),
        ("readahead", "strides_and_miss".to_owned(), [&head[..], &strides, &missed, &strides].concat()),
    ]
}

fn control() -> [Seed; 4] {
    let seed = |name: &str, line: &str| ("control", name.to_owned(), line.as_bytes().to_owned());
    let ticket =
        r#"{"ticket_new":{"label":"farm","shares":["films",{"bytes":[255,1]}],"prefix":"a/b","expires":9}}"#;
    [
        seed("new", ticket),
        seed("list", r#"{"ticket_list":{"after":"0123456789abcdef"}}"#),
        seed("revoke", r#"{"ticket_revoke":{"which":["0123","farm"]}}"#),
        seed("status", r#""status""#),
    ]
}

/// The limits, then what happens.
fn admission() -> [Seed; 2] {
    let large = |session: u8, class: u8| [0, session, class, 2, 0, 0, 15, 0];
    let (shrink, end, wait, join, leave) = ([3, 0, 9], [4, 0], [5, 10], [6], [7, 1]);
    let unpaced = [9, 3, 5, 200, 11, 0, 0];
    let paced = [40, 2, 4, 20, 8, 3, 9];
    let crowd = [large(0, 3), large(1, 1), large(0, 0), large(1, 2), large(2, 3)].concat().repeat(3);
    let seed = |name: &str, limits: &[u8]| {
        let events = [&join[..], &join, &crowd, &shrink, &end, &wait, &crowd, &end, &leave, &wait].concat();
        ("admission", name.to_owned(), after(limits, &events))
    };
    [seed("unpaced", &unpaced), seed("paced", &paced)]
}

/// What is mounted, the operations with their length in front, the answers of the host.
fn answers() -> [Seed; 4] {
    let seed = |name: &str, root: u8, operations: &[u8], answers: &[&[u8]]| {
        let len = u8::try_from(operations.len()).unwrap();
        ("answers", name.to_owned(), [&[root, len], operations, &answers.concat()[..]].concat())
    };
    let lookup = [0, 0, 0];
    // A number, kind and flags, a size of four bytes or of one.
    let file = [0, 5, 0, 2, 0, 0, 16, 0];
    let folder = [0, 6, 1, 0, 0];
    let open_read_close = [6, 0, 8, 0, 0, 0, 2, 0, 0, 1, 0, 10, 0];
    let open_list_wait_forget = [11, 1, 12, 0, 1, 14, 0, 15, 10, 3, 1];
    let page = [0, 2, 1, 0, 1, 0, 5, 7, 0, 0, 9, 2, 8, 3, b'x', b'y', b'z', 0, 6, 6, 1, 0, 0];
    let link_and_attributes = [5, 0, 13, 0, 0, 4, b'u', b's', b'e', b'r', 13, 0, 1];
    let values: [&[u8]; 3] = [b"\x00\x04../c", b"\x00\x04good", b"\x00\x05user\x00"];
    [
        seed("read", 1, &[&lookup[..], &open_read_close].concat(), &[&file, &file, &[0; 8]]),
        seed("list", 1, &[&lookup[..], &open_list_wait_forget].concat(), &[&folder, &page, &page, &[0; 8]]),
        seed("link", 1, &[&lookup[..], &link_and_attributes].concat(), &[&[0, 7, 2, 0, 0], &values.concat()]),
        seed("shares", 0, &[&lookup[..], &[0, 1, 2], &open_read_close].concat(), &[&folder, &file, &file]),
    ]
}

/// The operations of a rogue.
fn session() -> [Seed; 4] {
    let (open, finish, read) = ([0], [7, 0], [10, 0, 255, 255]);
    // Which stream; what is asked for, how urgent, how patient.
    let stat = [3, 0, 0x80, 3, 250];
    let never = [3, 0, 0, 3, 5];
    let big_read = [3, 0, 0x83, 1, 250, 2, 0, 0, 15, 0];
    let listing = [3, 0, 0x85, 2, 250, 0, 255, 2, 0];
    let half_of_a_request = [6, 0, 0x80, 3, 250, 0, 0, 0, 12, 0];
    let (stop, reset, forget, wait) = ([9, 0, 3], [8, 1, 0], [12, 0], [13, 30]);
    let seed = |name: &str, operations: &[&[u8]]| ("session", name.to_owned(), operations.concat());
    [
        seed("answered", &[&open, &stat, &finish, &read, &open, &listing, &finish, &wait]),
        seed(
            "never_read",
            &[&open, &big_read, &finish, &wait, &stop, &open, &never, &finish, &wait, &forget],
        ),
        seed(
            "half_open",
            &[&open, &half_of_a_request, &wait, &open, &open, &reset, &[2, 0, 3, 1, 2, 3], &finish],
        ),
        seed(
            "comes_back",
            &[&open, &stat, &[14, 9, 1, 0, 40, 0, 1, 200, 0], &wait, &[14, 0, 0], &open, &stat],
        ),
    ]
}

#[test]
fn seeds_are_committed() {
    let write = std::env::var_os("WORMHOLE_SEEDS").is_some_and(|value| value == "write");
    for (target, name, bytes) in seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let path = folder.join(&name);
        if write {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(
            committed == bytes,
            "{target}/{name}: WORMHOLE_SEEDS=write cargo test -p wormhole-fuzz seeds"
        );
    }
}
