"""The one script of the report: shows answers of a chosen problem, token by token.

It only reads the page's own data block and writes text nodes, so no text of a model can become markup. What is chosen
is kept in the address behind "#", so a view can be linked to.
"""

SCRIPT = r"""
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("answers").textContent);
  var root = document.getElementById("browser");
  var choice = {problem: 0, verdict: "all", colour: "none"};

  function make(kind, name, words) {
    var node = document.createElement(kind);
    if (name) { node.className = name; }
    if (words !== undefined) { node.textContent = words; }
    return node;
  }
  function read() {
    location.hash.slice(1).split("&").forEach(function (part) {
      var pair = part.split("=");
      if (pair[0] === "problem") { choice.problem = Math.min(Math.max(parseInt(pair[1], 10) || 0, 0),
                                                             data.problems.length - 1); }
      if (pair[0] === "verdict" && data.verdicts.indexOf(pair[1]) >= 0) { choice.verdict = pair[1]; }
      if (pair[0] === "colour" && ["none", "logprob", "change"].indexOf(pair[1]) >= 0) { choice.colour = pair[1]; }
    });
  }
  function select(label, key, options) {
    var box = make("label", "", label + " "), list = make("select");
    options.forEach(function (option) {
      var item = make("option", "", option[1]);
      item.value = option[0];
      list.appendChild(item);
    });
    list.value = String(choice[key]);
    list.addEventListener("change", function () {
      choice[key] = key === "problem" ? parseInt(list.value, 10) : list.value;
      show(true);
    });
    box.appendChild(list);
    return box;
  }
  function step(words, by) {
    var button = make("button", "", words);
    button.type = "button";
    button.addEventListener("click", function () {
      choice.problem = (choice.problem + by + data.problems.length) % data.problems.length;
      show(true);
    });
    return button;
  }
  function shade(token) {
    var value = choice.colour === "change" ? token[2] : token[1];
    if (value === undefined || value === null) { return ""; }
    var strength = choice.colour === "change" ? Math.min(1, Math.abs(value) / 2) : Math.min(1, -value / 4);
    var ink = choice.colour === "change" && value > 0 ? "0, 114, 178" : "213, 94, 0";
    return "rgba(" + ink + ", " + (0.75 * strength).toFixed(3) + ")";
  }
  function number(value) { return value === null || value === undefined ? "unknown" : value.toFixed(2); }
  function written(answer) {
    var block = make("pre");
    if (!answer.tokens) { block.textContent = answer.text; return block; }
    answer.tokens.forEach(function (token, at) {
      var piece = make("span", "token", token[0] === "" ? "·" : token[0]);
      piece.title = "log-probability " + number(token[1]) +
        (token.length > 2 ? ", change from the base " + (token[2] > 0 ? "+" : "") + number(token[2]) : "");
      if (choice.colour !== "none") { piece.style.background = shade(token); }
      block.appendChild(piece);
      if (data.spaced && at + 1 < answer.tokens.length) { block.appendChild(document.createTextNode(" ")); }
    });
    return block;
  }
  function card(answer) {
    var box = make("div", "sample answer");
    box.style.setProperty("--mark", data.colors[answer.verdict] || "var(--muted)");
    box.appendChild(make("strong", "", answer.verdict));
    box.appendChild(document.createTextNode(": " + answer.reason));
    box.appendChild(written(answer));
    box.appendChild(make("small", "", "answer " + answer.sample + ", log-probability " + number(answer.logprob) +
                         (answer.tokens ? "" : "; its tokens were not kept")));
    return box;
  }
  function show(changed) {
    if (changed) {
      history.replaceState(null, "", "#problem=" + choice.problem + "&verdict=" + choice.verdict + "&colour=" +
                           choice.colour);
    }
    var problem = data.problems[choice.problem], bar = make("p", "controls"), columns = make("div", "policies");
    root.replaceChildren();
    bar.appendChild(select("problem", "problem", data.problems.map(function (each, at) {
      return [String(at), each.id.slice(0, 60)];
    })));
    bar.appendChild(step("previous", -1));
    bar.appendChild(step("next", 1));
    bar.appendChild(select("show", "verdict", data.verdicts.map(function (each) { return [each, each]; })));
    bar.appendChild(select("colour by", "colour", [["none", "nothing"], ["logprob", "log-probability"],
                                                   ["change", "change from the base"]]));
    root.appendChild(bar);
    if (choice.colour === "logprob") {
      root.appendChild(make("p", "note", "The stronger the orange, the less likely was the token " +
                            "(full: a log-probability of -4)."));
    }
    if (choice.colour === "change") {
      root.appendChild(make("p", "note", "Blue tokens became likelier than under the base, orange ones less likely " +
                            "(full: by 2 nats). Answers of the base itself have no change."));
    }
    root.appendChild(make("pre", "prompt", problem.prompt));
    problem.policies.forEach(function (policy) {
      var column = make("section", "policy"), name = data.policies[policy.policy];
      var title = make("h3", "", name.name);
      title.style.color = name.color;
      column.appendChild(title);
      column.appendChild(make("p", "note", policy.right + " of " + policy.total + " right"));
      var chosen = policy.answers.filter(function (answer) {
        return choice.verdict === "all" || answer.verdict === choice.verdict;
      });
      chosen.forEach(function (answer) { column.appendChild(card(answer)); });
      if (!chosen.length) { column.appendChild(make("p", "note", "no such answer is shown here")); }
      columns.appendChild(column);
    });
    root.appendChild(columns);
  }
  read();
  show(false);
  window.addEventListener("hashchange", function () { read(); show(false); });
}());
"""
