"""What moves: the log, and the stages capture -> project -> plan -> deliver, each at-least-once and fenced."""
