"""``python -m ipad_train``, ``accelerate launch -m ipad_train``, ``torchrun -m ipad_train``."""

from ipad_train.cli import main

if __name__ == "__main__":
    main()
