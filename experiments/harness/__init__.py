"""What all experiments share: claims, training, sweeps, records, statistics, pictures and the report."""
