"""What `run.log_image`, `log_text` and `log_histogram` make of arrays and strings: TensorBoard's summaries, by hand."""
