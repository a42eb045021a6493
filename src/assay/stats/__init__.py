"""The estimates: paired effects, multiplicity, power and signal. Pure: values in, named results out."""
