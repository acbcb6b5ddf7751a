"""`python -m kipper`, for where the command is not on the path."""

from kipper.launch.main import main

if __name__ == "__main__":
    main()
