"""Start-up certification: checks, measured latencies, the selected precision and the certificate of this device."""
