use crate::harness::Test;
pub fn cases() -> Vec<Test> {
    Vec::new()
}
