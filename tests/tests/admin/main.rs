//! Looking at a running server and intervening: the API's routes for that, what the engine offers to programs, the topics
//! `$sys.…`, the page `/admin` as it is served, and `--stats`.

mod api;
mod engine;
mod subjects;
mod sys;
