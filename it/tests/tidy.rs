//! House rules that no lint can hold: each test is one rule, its name says which.

mod tidy {
    mod behaviours;
    mod configuration;
    mod documents;
    mod graph;
    mod sources;
}
