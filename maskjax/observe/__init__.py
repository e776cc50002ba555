"""What a run tells about itself; each file is imported by name, so that none costs the others.

writers       metrics.jsonl and TensorBoard
progress      the progress line: loss, images/s, ETA
flops         analytic FLOPs of a step, peaks of known chips, MFU
pictures      reconstruction sheets and mask coverage maps as arrays and PNG files
report        report.html of a run
run_files     config.json, overrides.json, run.json
"""
