from .auditing import RECIPES as RECIPES, Audit as Audit, judge as judge, published_audit as published_audit
from .numbers import Printed as Printed, Range as Range, printed as printed
