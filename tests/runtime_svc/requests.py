"""Short ways to write requests."""

from treni.v1 import common_pb2, inference_pb2


def message(content, role="user", **more):
    return common_pb2.Message(role=role, content=content, **more)


def generate_request(*contents, tools=(), cache_key="", **sampling):
    messages = [
        content if isinstance(content, common_pb2.Message) else message(content) for content in contents
    ]
    return inference_pb2.GenerateRequest(
        messages=messages, tools=tools, sampling=common_pb2.Sampling(**sampling), cache_key=cache_key
    )


def tool(name="calculator", parameters_json='{"type": "object", "properties": {}}'):
    return common_pb2.ToolSpec(name=name, description="Works.", parameters_json=parameters_json)
