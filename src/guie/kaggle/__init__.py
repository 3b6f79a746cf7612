"""What the Kaggle notebooks call: `begin` a session, `open_doors`, `hand_in` the submission.

Kaggle mounts attached data below /kaggle/input, read-only. It keeps /kaggle/working (20 GB) as the output of the
notebook's version. It ends a session after nine hours and then keeps nothing. So the doors are interrupted before that,
and a later version of the notebook, with this output attached, continues the run.
"""

from guie.kaggle.session import Session as Session
from guie.kaggle.session import begin as begin
from guie.kaggle.session import hand_in as hand_in
from guie.kaggle.session import open_doors as open_doors
