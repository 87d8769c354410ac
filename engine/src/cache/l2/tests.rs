use proptest::prelude::*;

use super::index::{Entry, Index, RECORD_BYTES_MAX, Spot};
use super::*;

fn content(file: u64, version: u64) -> ContentKey {
    ContentKey::from_halves(FileKey(file.wrapping_mul(0x9e37_79b9_7f4a_7c15)), version)
}

fn spot(number: u64) -> Spot {
    Spot { region: 1, home: 1, block: u16::try_from(number % 60_000).unwrap(), slot: 9, len: 131_072 }
}

#[test]
fn a_record_costs_less_than_48_bytes_of_memory() {
    let mut index = Index::new();
    let mut worst = 0.0_f64;
    for number in 0..1_000_000_u64 {
        // Files of one chunk and files of a hundred.
        let (file, chunk) = if number % 2 == 0 { (number, 0) } else { (number / 200, number) };
        index.insert(Entry::new(content(file, 1), u32::try_from(chunk).unwrap(), spot(number)));
        let records = index.len();
        if records >= 10_000 {
            worst = worst.max(index.memory_bytes() as f64 / records as f64);
        }
    }
    assert_eq!(index.len(), 1_000_000);
    // 45.7, just after the table has doubled.
    assert!(worst < RECORD_BYTES_MAX as f64, "{worst} bytes at worst");
    // 42.5 at a million.
    assert!(index.memory_bytes() < 43_000_000);
}

proptest! {
    #[test]
    fn the_index_is_a_map(steps in prop::collection::vec((0..20u64, 0..4u32, 0..3u64, any::<bool>()), 0..300)) {
        let mut index = Index::new();
        let mut model = std::collections::HashMap::new();
        for (number, (file, chunk, version, adds)) in (0..).zip(steps) {
            let key = content(file, version);
            if adds {
                let entry = Entry::new(key, chunk, spot(number));
                prop_assert_eq!(index.insert(entry), model.insert((file, chunk), entry));
            } else {
                let removed = index.find(key.file(), chunk).map(|number| index.remove(number));
                prop_assert_eq!(removed, model.remove(&(file, chunk)));
            }
            prop_assert_eq!(index.len(), model.len());
        }
        let walked: usize = (0..index.pieces()).map(|piece| index.piece(piece).count()).sum();
        prop_assert_eq!(walked, model.len());
        for ((file, chunk), entry) in model {
            let number = index.find(content(file, 0).file(), chunk).unwrap();
            prop_assert_eq!(*index.get(number), entry);
        }
    }
}
