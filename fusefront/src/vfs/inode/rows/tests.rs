use super::*;

fn add(rows: &mut Rows, number: u64) -> Row {
    let mut node = Node::new(FileKind::Regular);
    node.inode = number;
    rows.insert(node, name(number).as_bytes())
}

fn name(number: u64) -> String {
    format!("{number}").repeat(1 + usize::try_from(number % 50).unwrap())
}

fn check(rows: &Rows, row: Row, number: u64) {
    assert_eq!(rows.get(row).map(|node| node.inode), Some(number));
    assert_eq!(rows.name(row), name(number).as_bytes());
}

#[test]
fn rows_keep_their_numbers_and_names_while_others_come_and_go() {
    let mut rows = Rows::default();
    let mut live: Vec<(Row, u64)> = (0..3000).map(|number| (add(&mut rows, number), number)).collect();
    for turn in 1..20 {
        live.retain(|(row, number)| {
            let stays = number % 3 != turn % 3;
            assert!(stays || rows.remove(*row).is_some_and(|node| node.inode == *number));
            stays
        });
        live.extend((0..1000).map(|number| (add(&mut rows, turn * 1000 + number), turn * 1000 + number)));
        assert_eq!(rows.count(), live.len());
        live.iter().for_each(|(row, number)| check(&rows, *row, *number));
    }
    assert!(rows.places.len() * ROWS <= 2 * live.len() + 3000, "{} chunks", rows.places.len());
}

#[test]
fn a_chunk_of_the_longest_names_holds_them_whatever_they_were_before() {
    let mut rows = Rows::default();
    let all: Vec<Row> = (0..ROWS as u64).map(|number| add(&mut rows, number)).collect();
    for turn in 0..20 {
        for (row, letter) in all.iter().zip((b'a'..=b'z').cycle().skip(turn)) {
            rows.rename(*row, &[letter; 255]);
        }
    }
    for (row, letter) in all.iter().zip((b'a'..=b'z').cycle().skip(19)) {
        assert_eq!(rows.name(*row), [letter; 255]);
    }
    assert_eq!(rows.places.len(), 1);
    let names = &rows.places[0].chunk.as_ref().unwrap().names;
    assert!(names.len() <= NAMES_BYTES_MAX);
}

#[test]
fn chunks_are_dropped_when_they_are_empty_and_made_again() {
    let mut rows = Rows::default();
    let all: Vec<Row> = (0..4096).map(|number| add(&mut rows, number)).collect();
    for row in &all[ROWS..] {
        rows.remove(*row);
    }
    assert_eq!(rows.places.iter().filter(|place| place.chunk.is_some()).count(), 1);
    assert!(rows.get(all[ROWS]).is_none() && rows.name(all[ROWS]).is_empty());
    assert!(rows.remove(all[ROWS]).is_none(), "once");
    for number in 0..4096 - ROWS as u64 {
        let row = add(&mut rows, 10_000 + number);
        check(&rows, row, 10_000 + number);
    }
    assert_eq!(rows.places.len(), 4096 / ROWS, "the same places");
    check(&rows, all[0], 0);
}

#[test]
fn free_rows_of_chunks_in_use_are_taken_first() {
    let mut rows = Rows::default();
    let all: Vec<Row> = (0..1024).map(|number| add(&mut rows, number)).collect();
    for row in all.iter().step_by(2) {
        rows.remove(*row);
    }
    for number in 0..512 {
        add(&mut rows, number);
    }
    assert_eq!(rows.places.len(), 1024 / ROWS);
}

#[test]
fn names_take_little_more_than_their_bytes() {
    let mut rows = Rows::default();
    let all: Vec<Row> = (0..ROWS as u64).map(|number| add(&mut rows, number)).collect();
    let room = |rows: &Rows| rows.places[0].chunk.as_ref().map_or(0, |chunk| chunk.names.capacity());
    let bytes = (0..ROWS as u64).map(|number| name(number).len()).sum::<usize>();
    assert!(room(&rows) <= bytes + bytes / 8 + 255, "{} for {bytes}", room(&rows));
    for row in &all {
        for _ in 0..10 {
            rows.rename(*row, b"short");
        }
    }
    rows.rename(all[0], &[b'x'; 255]);
    for _ in 0..200 {
        rows.rename(all[1], b"another");
    }
    assert!(room(&rows) <= bytes + bytes / 4, "renames do not add up: {}", room(&rows));
}
