"""What is printed and written in sentences."""


def counted(count: int, what: str, form: str = "") -> str:
    """Such as "1 run" and "2 runs"; `form` is that of the number, as in a format string."""
    return f"{count:{form}} {what}{'' if count == 1 else 's'}"
