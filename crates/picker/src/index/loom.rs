//! Every order of a reader's and the writer's steps, tried by loom on one segment of the table:
//! `RUSTFLAGS="--cfg loom" cargo test -p waypost-picker --release loom`.

use loom::thread;
use std::sync::Arc;

use super::line::{Blocks, Line};
use super::room::Room;
use super::table::Table;
use super::view::View;

/// A table whose keys 1.. share one segment's ring, the first `keys` of them in it with the bit 1 << key.
fn table(keys: u64) -> (Table<Blocks>, Room, Vec<u64>) {
    let mut room = Room::new(1 << 20);
    let mut table = Table::<Blocks>::new(0, &mut room).unwrap();
    let shared = table.neighbours(keys as usize);
    for (number, key) in shared.iter().enumerate() {
        insert(&mut table, *key, 1 << number, &mut room);
    }
    (table, room, shared)
}

/// As prompts are read: at home first, then further on.
fn look_up(view: &View<Blocks>, key: u64) -> u64 {
    view.read(&[key]).next().unwrap()
}

fn insert(table: &mut Table<Blocks>, key: u64, workers: u64, room: &mut Room) {
    let (at, held) = table.seek(key);
    assert!(!held);
    table.insert(at, key, workers, room).unwrap();
}

fn remove(table: &mut Table<Blocks>, key: u64, room: &mut Room) {
    let (at, held) = table.seek(key);
    assert!(held);
    table.remove(at, room);
}

#[test]
fn loom_a_moving_block_is_never_missed() {
    loom::model(|| {
        // Five blocks at home in a line of four: the fifth lies in the next line and is pulled back.
        let (mut table, mut room, keys) = table(5);
        let view = Arc::new(table.changed().unwrap());
        let (reader, moved) = (Arc::clone(&view), keys[4]);
        let read = thread::spawn(move || assert_eq!(look_up(&reader, moved), 1 << 4));
        remove(&mut table, keys[0], &mut room);
        read.join().unwrap();
        assert_eq!(look_up(&view, keys[0]), 0);
    });
}

#[test]
fn loom_a_reused_slot_never_lends_its_workers() {
    loom::model(|| {
        let (mut table, mut room, keys) = table(2);
        let view = Arc::new(table.changed().unwrap());
        let (reader, gone) = (Arc::clone(&view), keys[0]);
        let read = thread::spawn(move || assert!([0, 1].contains(&look_up(&reader, gone))));
        remove(&mut table, keys[0], &mut room);
        let third = table.neighbours(3)[2];
        insert(&mut table, third, 1 << 7, &mut room);
        read.join().unwrap();
    });
}

#[test]
fn loom_a_worker_joins_and_leaves_a_block() {
    loom::model(|| {
        let (mut table, _, keys) = table(1);
        let view = Arc::new(table.changed().unwrap());
        let (reader, key) = (Arc::clone(&view), keys[0]);
        let read = thread::spawn(move || assert!([1, 3, 2].contains(&look_up(&reader, key))));
        let (line, slot) = table.find(key).unwrap();
        line.set(slot, 3);
        line.set(slot, 2);
        read.join().unwrap();
        assert_eq!(look_up(&view, key), 2);
    });
}

#[test]
fn loom_growth_takes_nothing_from_a_reader_of_the_segment_before() {
    loom::model(|| {
        // Two lines of four are as full as they may be: one more block, and the segment is copied.
        let (mut table, mut room, keys) = table(6);
        let view = Arc::new(table.changed().unwrap());
        let (reader, held) = (Arc::clone(&view), keys[5]);
        let read = thread::spawn(move || assert_eq!(look_up(&reader, held), 1 << 5));
        let seventh = table.neighbours(7)[6];
        insert(&mut table, seventh, 1 << 6, &mut room);
        remove(&mut table, keys[0], &mut room);
        let (line, slot) = table.find(held).unwrap();
        line.set(slot, 1 << 5 | 1);
        let grown = table.changed().expect("the segment was copied");
        read.join().unwrap();
        assert_eq!([seventh, held, keys[0]].map(|key| look_up(&grown, key)), [1 << 6, 1 << 5 | 1, 0]);
        assert_eq!(look_up(&view, seventh), 0, "who reads on in the old segment reads what it was");
    });
}
