//! Plots as SVG inside the page. Colours come from the page's style (classes), so they follow its theme.

pub mod frame;
pub mod heat;
pub mod history;
pub mod lines;
pub mod percentiles;
