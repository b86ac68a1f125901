"""An agent of one's own for `treni-route matrix p00 --agent-command "python examples/my_agent.py"`: docs/agents.md.

It asks the model at $MY_MODEL (an OpenAI-compatible base URL) once for each thing that a user says, with no tools,
and says what that answers.
"""

import json
import os
import sys
import urllib.request

URL = os.environ.get("MY_MODEL", "http://127.0.0.1:8000/v1") + "/chat/completions"

for line in sys.stdin:
    task = json.loads(line)
    messages = []
    for before in task.get("earlier", []):  # of a task in which the user says several things
        messages.append({"role": "user", "content": before["prompt"]})
        messages.append({"role": "assistant", "content": before["answer"]})
    messages.append({"role": "user", "content": task["prompt"]})
    body = {"model": "any", "messages": messages, "seed": task["seed"]}
    request = urllib.request.Request(URL, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        answered = json.load(urllib.request.urlopen(request, timeout=task["deadline_s"]))
        usage = {key: answered["usage"][key] for key in ("prompt_tokens", "completion_tokens")}
        said = {"answer": answered["choices"][0]["message"]["content"] or "", "usage": usage}
    except OSError as error:
        said = {"error": {"message": str(error)}}
    print(json.dumps({"id": task["id"], "turn": task.get("turn"), **said}), flush=True)
