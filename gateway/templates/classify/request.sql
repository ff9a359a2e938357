-- Who bought what last week, the best customers first.
SELECT c.name, COUNT(*) AS orders, SUM(o.total) AS spent
FROM customers AS c
JOIN orders AS o ON o.customer_id = c.id
WHERE o.created_at >= CURRENT_DATE - INTERVAL '7 days'
GROUP BY c.name
HAVING SUM(o.total) > 100
ORDER BY spent DESC
LIMIT 20;
