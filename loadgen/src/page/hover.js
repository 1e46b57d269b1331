// What the curves say at the pointer. The page says everything without it too.
(function () {
  function time(ns) {
    var units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
    var unit = units.find(function (u) { return ns >= u[0]; }) || units[3];
    return Number((ns / unit[0]).toPrecision(3)) + " " + unit[1];
  }
  document.querySelectorAll("svg[data-curves]").forEach(function (svg) {
    var data = JSON.parse(svg.dataset.curves), plot = svg.parentNode;
    var line = document.createElementNS(svg.namespaceURI, "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", data.top);
    line.setAttribute("y2", data.bottom);
    var tip = document.createElement("div");
    tip.className = "tip";
    function hide() { tip.remove(); line.remove(); }
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", function (event) {
      var box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      var x = (event.clientX - box.left) * scale, at = 0;
      if (x < data.x[0] - 8 || x > data.x[data.x.length - 1] + 8) { hide(); return; }
      data.x.forEach(function (here, n) { if (Math.abs(here - x) < Math.abs(data.x[at] - x)) { at = n; } });
      line.setAttribute("x1", data.x[at]);
      line.setAttribute("x2", data.x[at]);
      svg.appendChild(line);
      tip.textContent = "";
      var head = document.createElement("b");
      head.textContent = data.label[at];
      tip.appendChild(head);
      data.curves.forEach(function (curve) {
        if (curve.y[at] === undefined) { return; }
        var row = document.createElement("div"), name = document.createElement("i"), value = document.createElement("span");
        name.textContent = curve.name;
        name.className = curve.class;
        value.textContent = time(curve.y[at]);
        row.append(name, value);
        tip.appendChild(row);
      });
      plot.appendChild(tip);
      var left = data.x[at] / scale + 14;
      tip.style.left = (left + tip.offsetWidth > box.width ? left - tip.offsetWidth - 28 : left) + "px";
      tip.style.top = Math.max(0, event.clientY - box.top - tip.offsetHeight / 2) + "px";
    });
  });
})();
