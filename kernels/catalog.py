"""Every public kernel once: tests, benchmarks and `fastnn check` iterate over this list of `catalog_row.Row`."""

from .catalog_layers import activation_rows, linear_rows, regularization_rows, standardization_rows
from .catalog_networks import network_rows
from .catalog_training import loss_rows, optimizer_rows

CATALOG = (
    *linear_rows(),
    *activation_rows(),
    *loss_rows(),
    *optimizer_rows(),
    *regularization_rows(),
    *standardization_rows(),
    *network_rows(),
)
