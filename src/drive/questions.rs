//! Why nothing is told: readers ask, and the loop answers between two steps.
//!
//! It must never hold the loop up: all who wait are given one answer, and nobody is waited for.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::model::{Answer, Held, Reasons};

/// Who asks beyond this waits for a place.
const WAITING_MAX: usize = 64;

/// Where an answer is to go.
type Question = oneshot::Sender<Arc<Vec<Held>>>;

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

    /// Made once for `first` and all who wait meanwhile.
    pub(super) fn answer(&mut self, first: Question, held: impl FnOnce() -> Vec<Held>) {
        let waiting = std::iter::once(first).chain(std::iter::from_fn(|| self.0.try_recv().ok()));
        // Who gave up meanwhile is not answered for.
        let waiting: Vec<Question> = waiting.filter(|question| !question.is_closed()).collect();
        if waiting.is_empty() {
            return;
        }
        let held = Arc::new(held());
        for question in waiting {
            let _ = question.send(Arc::clone(&held));
        }
    }
}

impl Reasons for Asker {
    fn held(&self) -> Answer<'_> {
        Box::pin(async move {
            let (question, answer) = oneshot::channel();
            self.0.send(question).await.ok()?;
            answer.await.ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_given_one_answer_and_who_gave_up_costs_none() {
        let (asker, mut questions) = Questions::channel();
        let mut made = 0;
        let (gone, left) = oneshot::channel();
        drop(left);
        questions.answer(gone, || {
            made += 1;
            Vec::new()
        });
        assert_eq!(made, 0);
        let loops = async {
            let first = questions.next().await.unwrap();
            questions.answer(first, || {
                made += 1;
                Vec::new()
            });
        };
        let (one, other, ()) = tokio::join!(biased; asker.held(), asker.held(), loops);
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
        assert_eq!(made, 1);
        drop(questions);
        assert_eq!(asker.held().await, None, "a loop that has ended");
    }
}
