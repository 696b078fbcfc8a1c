//! The config.json that `hull spec` writes: runc's default, and its rootless form.
