//! Answers known and questions under way, by question: the same question is never asked twice at once.
//!
//! Bounded: so many answers, the least recently used go first, and so many questions. Keys are 128-bit hashes with
//! secret keys of this process, so that nobody can make up two conversations that share an answer. Called by the asker.

use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use tokio::sync::watch;

/// Stands for a question.
pub(super) type Key = u128;

/// See the module. `A` is a good answer, `F` why there is none.
#[derive(Debug)]
pub(super) struct Memory<A, F> {
    hashers: [RandomState; 2],
    most_asked: usize,
    state: Mutex<State<A, F>>,
}

#[derive(Debug)]
struct State<A, F> {
    /// Absent where none are to be kept.
    known: Option<LruCache<Key, A>>,
    asked: HashMap<Key, Waiting<A, F>>,
}

/// Where the answer to a question under way will stand; closed without one if whoever asked went away.
pub(super) type Waiting<A, F> = watch::Receiver<Option<Result<A, F>>>;

/// What is known of a question.
pub(super) enum Look<'a, A, F> {
    /// Its answer.
    Known(A),
    /// Somebody is asking.
    Asked(Waiting<A, F>),
    /// Nobody is, and the caller may.
    Ask(Asking<'a, A, F>),
    /// Nobody is, but there are enough questions under way.
    Busy,
}

impl<A: Copy, F: Copy> Memory<A, F> {
    /// Keeps `answers`, and lets `questions` be under way.
    pub(super) fn new(answers: usize, questions: usize) -> Self {
        let known = NonZeroUsize::new(answers).map(LruCache::new);
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            most_asked: questions,
            state: Mutex::new(State { known, asked: HashMap::new() }),
        }
    }

    pub(super) fn key(&self, question: &str) -> Key {
        let [a, b] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(question)));
        a << 64 | b
    }

    pub(super) fn look(&self, key: Key) -> Look<'_, A, F> {
        let mut state = self.state.lock();
        if let Some(answer) = state.known.as_mut().and_then(|known| known.get(&key)) {
            return Look::Known(*answer);
        }
        if let Some(waiting) = state.asked.get(&key) {
            return Look::Asked(waiting.clone());
        }
        if state.asked.len() >= self.most_asked {
            return Look::Busy;
        }
        let (sender, waiting) = watch::channel(None);
        state.asked.insert(key, waiting);
        Look::Ask(Asking { memory: self, key, sender })
    }
}

/// A question that the holder has to ask; dropped unanswered, one of those who wait may.
pub(super) struct Asking<'a, A, F> {
    memory: &'a Memory<A, F>,
    key: Key,
    sender: watch::Sender<Option<Result<A, F>>>,
}

impl<A: Copy, F: Copy> Asking<'_, A, F> {
    /// Tells those who wait, and keeps a good answer.
    pub(super) fn answered(self, outcome: Result<A, F>) {
        if let Ok(answer) = outcome
            && let Some(known) = &mut self.memory.state.lock().known
        {
            known.put(self.key, answer);
        }
        self.sender.send_replace(Some(outcome));
    }
}

impl<A, F> Drop for Asking<'_, A, F> {
    fn drop(&mut self) {
        self.memory.state.lock().asked.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Memory<u32, &'static str>;

    fn answered(memory: &Numbers, question: &str, answer: u32) {
        match memory.look(memory.key(question)) {
            Look::Ask(asking) => asking.answered(Ok(answer)),
            _ => panic!("{question} is known or asked already"),
        }
    }

    fn known(memory: &Numbers, question: &str) -> Option<u32> {
        match memory.look(memory.key(question)) {
            Look::Known(answer) => Some(answer),
            _ => None,
        }
    }

    #[test]
    fn the_least_recently_used_answer_goes_first() {
        let memory = Numbers::new(3, 1);
        (0..3).for_each(|i| answered(&memory, &i.to_string(), i));
        assert_eq!(known(&memory, "0"), Some(0));
        answered(&memory, "3", 3);
        assert_eq!(["0", "1", "2", "3"].map(|q| known(&memory, q)), [Some(0), None, Some(2), Some(3)]);
        for i in 0..1000 {
            answered(&memory, &format!("more {i}"), i);
        }
        let state = memory.state.lock();
        assert_eq!((state.known.as_ref().unwrap().len(), state.asked.len()), (3, 0));
    }

    #[test]
    fn without_room_nothing_is_kept_and_failures_never_are() {
        let memory = Numbers::new(0, 1);
        answered(&memory, "a", 1);
        assert_eq!(known(&memory, "a"), None);
        let memory = Numbers::new(8, 1);
        match memory.look(1) {
            Look::Ask(asking) => asking.answered(Err("no")),
            _ => panic!(),
        }
        assert!(matches!(memory.look(1), Look::Ask(_)));
    }

    #[test]
    fn questions_under_way_are_bounded() {
        let memory = Numbers::new(8, 2);
        let (first, second) = (memory.look(1), memory.look(2));
        assert!(matches!(memory.look(3), Look::Busy));
        assert!(matches!(memory.look(2), Look::Asked(_)), "to wait is free");
        drop(first);
        assert!(matches!(memory.look(3), Look::Ask(_)));
        drop(second);
    }

    #[tokio::test]
    async fn who_waits_gets_the_answer_or_may_ask_when_the_asker_left() {
        let memory = Numbers::new(8, 2);
        let Look::Ask(asking) = memory.look(1) else { panic!() };
        let Look::Asked(mut waiting) = memory.look(1) else { panic!() };
        asking.answered(Ok(7));
        assert_eq!(*waiting.wait_for(Option::is_some).await.unwrap(), Some(Ok(7)));
        let Look::Ask(asking) = memory.look(2) else { panic!() };
        let Look::Asked(mut waiting) = memory.look(2) else { panic!() };
        drop(asking);
        assert!(waiting.wait_for(Option::is_some).await.is_err());
        assert!(matches!(memory.look(2), Look::Ask(_)));
    }

    #[test]
    fn keys_differ_with_the_question_and_from_process_to_process() {
        let (one, other) = (Numbers::new(0, 1), Numbers::new(0, 1));
        assert_eq!(one.key("a"), one.key("a"));
        assert_ne!(one.key("a"), one.key("b"));
        assert_ne!(one.key("a"), other.key("a"));
        assert_ne!(one.key("a") >> 64, one.key("a") & u128::from(u64::MAX), "two hashes, not one");
    }
}
