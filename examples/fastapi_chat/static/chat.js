// Streams answers into the page; the form works without this file, too.
const form = document.getElementById("ask");
const log = document.getElementById("log");

function say(kind, text) {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  log.append(line);
  line.scrollIntoView({ block: "nearest" });
  return line;
}

function showRefusal(problem) {
  const line = say("refused", problem.detail + " ");
  if (problem.upgrade_url) {
    const link = document.createElement("a");
    link.href = problem.upgrade_url;
    link.textContent = "Upgrade";
    line.append(link);
  }
}

async function readEvents(body, handle) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const events = (rest + part.value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s)));
      handle(fields.event || "message", JSON.parse(fields.data));
    }
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  say("question", data.get("question"));
  form.reset();
  const response = await fetch(form.dataset.send, {
    method: "POST",
    body: data,
    headers: { Accept: "application/problem+json" },
  });
  if (response.ok) {
    const answer = say("answer", "");
    await readEvents(response.body, (kind, value) => {
      if (kind === "error") showRefusal(value);
      else answer.textContent += value;
    });
  } else if ((response.headers.get("Content-Type") || "").startsWith("application/problem+json")) {
    showRefusal(await response.json());
  } else {
    say("refused", "Something went wrong. Please try again.");
  }
  const usage = await fetch(form.dataset.usage);
  document.getElementById("usage").innerHTML = await usage.text();
});
