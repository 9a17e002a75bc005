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

async function* pieces(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

// Server-sent events: pieces of the answer as JSON, and perhaps a refusal as the last one.
async function* events(response) {
  let rest = "";
  for await (const piece of pieces(response)) {
    const whole = (rest + piece).split("\n\n");
    rest = whole.pop();
    for (const event of whole) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.event === "error") showRefusal(JSON.parse(fields.data));
      else yield JSON.parse(fields.data);
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
  const type = response.headers.get("Content-Type") || "";
  if (response.ok) {
    const answer = say("answer", "");
    const read = type.startsWith("text/event-stream") ? events : pieces;
    for await (const piece of read(response)) answer.textContent += piece;
  } else if (type.startsWith("application/problem+json")) {
    showRefusal(await response.json());
  } else {
    say("refused", "Something went wrong. Please try again.");
  }
  const usage = await fetch(form.dataset.usage);
  document.getElementById("usage").innerHTML = await usage.text();
});
