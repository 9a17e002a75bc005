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
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      answer.textContent += part.value;
    }
  } else if ((response.headers.get("Content-Type") || "").startsWith("application/problem+json")) {
    showRefusal(await response.json());
  } else {
    say("refused", "Something went wrong. Please try again.");
  }
  const usage = await fetch(form.dataset.usage);
  document.getElementById("usage").innerHTML = await usage.text();
});
