// The server: questions with the token, and the events as they come.
const API = "/api/v1/gpu";
const SILENCE_MS = 40000; // the server says something every 15 s

class NeedsToken extends Error {}
class NotReady extends Error {}

const headers = () => {
  const token = sessionStorage.getItem("token");
  return { "Accept-Language": root.lang, ...(token && { Authorization: `Bearer ${token}` }) };
};

async function answered(path, more = {}) {
  const answer = await fetch(API + path, { cache: "no-store", ...more, headers: { ...headers(), ...more.headers } });
  if (answer.status === 401) throw new NeedsToken();
  if (answer.status === 503) throw new NotReady((await answer.json()).error.message);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer;
}

const ask = async (path) => (await answered(path)).json();

// EventSource can send no token, so the stream is read by hand.
// `alive` is called whenever the server says something; `tell` says whether that was enough.
async function follow(after, tell, alive) {
  const ending = new AbortController();
  let silence = setTimeout(() => ending.abort(), SILENCE_MS);
  try {
    const answer = await answered("/events", { headers: { "Last-Event-ID": after }, signal: ending.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      clearTimeout(silence);
      silence = setTimeout(() => ending.abort(), SILENCE_MS);
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const told = {};
        for (const line of block.split("\n")) {
          const at = line.indexOf(": ");
          if (at > 0) told[line.slice(0, at)] = line.slice(at + 2);
        }
        if (told.event && tell(told.event, JSON.parse(told.data), told.id)) return;
      }
    }
  } finally {
    clearTimeout(silence);
    ending.abort();
  }
}
