// The site's search runs in a worker, which browsers do not start for pages read as files. There this
// runs it in a hidden frame. mkdocs-material looks for the name; its own copy is on another site.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.onmessage = null;
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.srcdoc = `<body><script>
      var __index = parent.__index;
      postMessage = (data) => frameElement.answered(data);
      importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {
        const script = document.createElement("script");
        Object.assign(script, { src: url, onload: done, onerror: done });
        document.body.append(script);
      })), Promise.resolve());
    <\/script><script src="${new URL(url, document.baseURI)}"><\/script></body>`;
    frame.answered = (data) => {
      const event = new MessageEvent("message", { data });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    };
    this.loaded = new Promise((done) => (frame.onload = done));
    this.frame = frame;
    document.body.append(frame);
  }

  postMessage(data) {
    this.loaded.then(() =>
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })),
    );
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
