//! Why nothing is told: readers ask, and the loop answers between two steps.
//!
//! It must never hold the loop up: all who wait are given one answer, and nobody is waited for.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::model::{Answer, Held, PolicyAnswer, PolicyReasons, Reasons};

/// Who asks beyond this waits for a place.
const WAITING_MAX: usize = 64;

/// What is asked, and where the answer is to go.
#[derive(Debug)]
pub(super) enum Question {
    Held(oneshot::Sender<Arc<Vec<Held>>>),
    Policies(oneshot::Sender<Arc<PolicyReasons>>),
}

/// Who can answer.
pub(super) trait Knows {
    fn held(&self) -> Vec<Held>;
    fn policies(&self) -> PolicyReasons;
}

/// The readers' end.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// The loop's end.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

impl Questions {
    pub fn channel() -> (Asker, Self) {
        let (asks, questions) = mpsc::channel(WAITING_MAX);
        (Asker(asks), Self(questions))
    }

    /// Somebody asks; `None`: nobody ever will.
    pub(super) async fn next(&mut self) -> Option<Question> {
        self.0.recv().await
    }

    /// Each answer is made once for `first` and all who wait meanwhile.
    pub(super) fn answer(&mut self, first: Question, knows: &impl Knows) {
        let (mut held, mut policies) = (None, None);
        for question in std::iter::once(first).chain(std::iter::from_fn(|| self.0.try_recv().ok())) {
            match question {
                // Who gave up meanwhile is not answered for.
                Question::Held(asker) if asker.is_closed() => {}
                Question::Policies(asker) if asker.is_closed() => {}
                Question::Held(asker) => {
                    let _ = asker.send(held.get_or_insert_with(|| Arc::new(knows.held())).clone());
                }
                Question::Policies(asker) => {
                    let _ = asker.send(policies.get_or_insert_with(|| Arc::new(knows.policies())).clone());
                }
            }
        }
    }
}

impl Reasons for Asker {
    fn held(&self) -> Answer<'_> {
        Box::pin(async move {
            let (question, answer) = oneshot::channel();
            self.0.send(Question::Held(question)).await.ok()?;
            answer.await.ok()
        })
    }

    fn policies(&self) -> PolicyAnswer<'_> {
        Box::pin(async move {
            let (question, answer) = oneshot::channel();
            self.0.send(Question::Policies(question)).await.ok()?;
            answer.await.ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often each answer was made.
    #[derive(Default)]
    struct Counts {
        held: Cell<u32>,
        policies: Cell<u32>,
    }

    impl Knows for Counts {
        fn held(&self) -> Vec<Held> {
            self.held.set(self.held.get() + 1);
            Vec::new()
        }

        fn policies(&self) -> PolicyReasons {
            self.policies.set(self.policies.get() + 1);
            PolicyReasons::default()
        }
    }

    #[tokio::test]
    async fn all_who_wait_are_given_one_answer_and_who_gave_up_costs_none() {
        let (asker, mut questions) = Questions::channel();
        let counts = Counts::default();
        let (gone, left) = oneshot::channel();
        drop(left);
        questions.answer(Question::Held(gone), &counts);
        assert_eq!((counts.held.get(), counts.policies.get()), (0, 0));
        let loops = async {
            let first = questions.next().await.unwrap();
            questions.answer(first, &counts);
        };
        let (one, policies, other, ()) =
            tokio::join!(biased; asker.held(), asker.policies(), asker.held(), loops);
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
        assert!(policies.is_some());
        assert_eq!((counts.held.get(), counts.policies.get()), (1, 1));
        drop(questions);
        assert_eq!(asker.held().await, None, "a loop that has ended");
        assert_eq!(asker.policies().await, None, "a loop that has ended");
    }
}
