def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)  # the host's name is no measurement
